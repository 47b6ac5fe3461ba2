"""The configuration: every value is kept where it makes sense and refused by name where it does
not.
"""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vggt3_ros.config import BackendConfig

FLAT = BackendConfig().flat()
NUMBERS = {
    name: (default, m) for name, (default, m) in FLAT.items() if type(default) in (int, float)
}


def _low(metadata):
    return -1e9 if metadata["low"] is None else metadata["low"]


def _high(metadata):
    return 1e9 if metadata["high"] is None else metadata["high"]


@given(st.data())
def test_every_number_in_its_range_is_kept(data):
    name = data.draw(st.sampled_from(sorted(NUMBERS)))
    default, metadata = NUMBERS[name]
    numbers = st.floats if type(default) is float else st.integers
    low, high = (type(default)(bound(metadata)) for bound in (_low, _high))
    given_value = data.draw(numbers(low, high))
    flat = BackendConfig.from_flat({name: given_value}).flat()
    assert flat[name][0] == given_value
    assert {k: v for k, (v, _) in flat.items() if k != name} == {
        k: v for k, (v, _) in FLAT.items() if k != name
    }


@pytest.mark.parametrize("name", sorted(NUMBERS))
def test_a_number_out_of_range_is_refused_by_name(name):
    default, metadata = NUMBERS[name]
    wrong = [
        value
        for value in (
            metadata["low"] is not None and metadata["low"] - 1,
            metadata["high"] is not None and metadata["high"] + 1,
        )
        if value is not False
    ]
    assert wrong, f"{name} has no range"
    wrong += [math.nan, math.inf] if type(default) is float else [0.5]
    for value in wrong + ["1", True, None]:
        with pytest.raises(ValueError, match=name.rpartition(".")[2]):
            BackendConfig.from_flat({name: value})


def test_every_value_is_documented_and_its_default_allowed():
    for name, (default, metadata) in FLAT.items():
        assert len(metadata["doc"]) > 8, name
        assert BackendConfig.from_flat({name: default}) == BackendConfig()


def test_flat_and_back_is_the_same_configuration():
    changed = BackendConfig.from_flat(
        {
            "loops.pairs_per_keyframe": 7,
            "memory.learning_rate": 1e-3,
            "fixed_poses": True,
            "device": "cpu",
        }
    )
    assert changed != BackendConfig() and changed.loops.pairs_per_keyframe == 7
    assert (
        BackendConfig.from_flat({name: value for name, (value, _) in changed.flat().items()})
        == changed
    )


def test_an_integer_will_do_for_a_float():
    radius = BackendConfig.from_flat({"loops.proximity_radius": 2}).loops.proximity_radius
    assert radius == 2.0 and type(radius) is float


@pytest.mark.parametrize(
    "name, message",
    [
        ("loops.radius", "loops.radius.*loops.proximity_radius"),
        ("loop.pairs_per_keyframe", "'loop'.*loops"),
        ("speed", "'speed'.*fixed_poses"),
    ],
)
def test_an_unknown_name_is_answered_with_the_known_ones(name, message):
    with pytest.raises(ValueError, match=message):
        BackendConfig.from_flat({name: 1})


def test_a_configuration_cannot_change_under_the_feet_of_who_reads_it():
    with pytest.raises(AttributeError):
        BackendConfig().loops.pairs_per_keyframe = 3
