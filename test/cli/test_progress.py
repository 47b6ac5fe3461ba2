"""One bar for each stage."""

from typing import ClassVar

import pytest

from vggt3_ros.cli import progress
from vggt3_ros.cli.progress import StageBars


class Bar:
    """Stands in for tqdm."""

    made: ClassVar[list] = []

    def __init__(self, total, desc, **options):
        self.total, self.desc, self.options, self.n, self.closed = total, desc, options, 0, False
        Bar.made.append(self)

    def update(self, by):
        assert by >= 0 and not self.closed
        self.n += by

    def close(self):
        self.closed = True


@pytest.fixture
def bars(monkeypatch):
    Bar.made = []
    monkeypatch.setattr(progress, "tqdm", Bar)
    return Bar.made


def test_each_stage_has_a_bar_that_ends_full(bars):
    with StageBars() as show:
        show("features", 0.25)
        show("features", 0.5)
        assert len(bars) == 1 and bars[0].n == 50
        show("loops", 0.1)
        assert bars[0].closed and bars[0].n == 100 and bars[1].n == pytest.approx(10)
    assert bars[1].closed and bars[1].n == 100
    assert [bar.desc.strip() for bar in bars] == ["features", "loops"]


def test_a_stage_that_goes_back_does_not_move_its_bar_back(bars):
    with StageBars() as show:
        show("loops", 0.8)
        show("loops", 0.3)
        assert bars[0].n == pytest.approx(80)


def test_a_stage_that_comes_again_has_a_new_bar_and_closing_twice_is_harmless(bars):
    show = StageBars(quiet=True)
    show("features", 1.0)
    show("loops", 1.0)
    show("features", 0.0)
    show.close()
    show.close()
    assert len(bars) == 3 and all(bar.options["disable"] is True for bar in bars)
