"""Evidence convinces when every part of it does."""

import pytest

from vggt3_ros.memory.evidence import Evidence

STRONG = Evidence(agreeing=120, share=0.3, similarity=0.75, shown=0.2)


def test_thresholds_are_reached_by_being_equal():
    assert STRONG.convinces(120, 0.3, 0.75, 0.2)


@pytest.mark.parametrize(
    "weaker",
    [
        Evidence(119, 0.3, 0.75, 0.2),
        Evidence(120, 0.29, 0.75, 0.2),
        Evidence(120, 0.3, 0.74, 0.2),
        Evidence(120, 0.3, 0.75, 0.19),
    ],
)
def test_one_weak_part_is_enough_to_doubt(weaker):
    assert not weaker.convinces(120, 0.3, 0.75, 0.2)
    assert weaker.convinces(119, 0.29, 0.74, 0.19)
