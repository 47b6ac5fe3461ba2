"""Configs checked by pydantic: what is refused, and in which words a user of ROS parameters reads
it.
"""

import dataclasses
import math
import pickle
from typing import Literal, Self

import pytest
from pydantic import Field, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from vggt3_ros.system.checked import Checked, components, describe, value


@dataclass(frozen=True)
class Engine(Checked):
    """What drives it."""

    cylinders: int = value(4, "Number of cylinders", low=1, high=16, live=False)
    speed: float = value(50.0, "Speed of the shaft", "Hz", 1.0, 200.0)
    fuel: Literal["petrol", "diesel"] = value("petrol", "What it burns")
    turbo: bool = value(False, "Whether it is charged")
    maker: str = value("", "Who made it")

    @model_validator(mode="after")
    def _small_engines_turn_fast(self) -> Self:
        if self.cylinders == 1 and self.speed < 10:
            raise ValueError(f"speed must be above 10 with one cylinder, got {self.speed}")
        return self


@dataclass(frozen=True)
class Tuned(Engine):
    """With a value more than its base."""

    boost: float = value(0.5, "Boost", "bar", 0.0, 2.0)


@dataclass(frozen=True)
class Car(Checked):
    doors: int = value(5, "Number of doors", low=2, high=5)
    engine: Engine = Field(default_factory=Engine)


@pytest.mark.parametrize(
    "name, given, reason",
    [
        ("engine.cylinders", 17, "engine.cylinders must be 1 to 16, got 17"),
        ("engine.speed", 0.5, "engine.speed must be 1.0 to 200.0 Hz, got 0.5"),
        ("engine.speed", math.nan, "engine.speed must be finite, got nan"),
        ("engine.speed", True, "engine.speed must be float, got True"),
        ("engine.speed", "50", "engine.speed must be float, got '50'"),
        ("engine.cylinders", True, "engine.cylinders must be int, got True"),
        ("engine.cylinders", 4.0, "engine.cylinders must be int, got 4.0"),
        ("engine.turbo", 1, "engine.turbo must be bool, got 1"),
        ("engine.maker", b"x", "engine.maker must be str, got b'x'"),
        ("engine.fuel", "wood", "engine.fuel must be one of petrol, diesel, got 'wood'"),
        ("engine.fuel", ["petrol"], "engine.fuel must be one of petrol, diesel, got ['petrol']"),
        ("doors", None, "doors must be int, got None"),
        ("engine", 3, "engine is a component; set its values as engine.NAME"),
    ],
)
def test_a_refusal_is_one_line_with_the_parameter_what_it_may_be_and_what_came(
    name, given, reason
):
    with pytest.raises(ValueError) as refused:
        Car.from_flat({name: given})
    assert str(refused.value) == reason


def test_every_wrong_value_of_a_component_is_told_at_once():
    with pytest.raises(ValueError) as refused:
        Car.from_flat({"engine.cylinders": 0, "engine.turbo": "yes", "engine.speed": 60})
    assert str(refused.value) == (
        "engine.cylinders must be 1 to 16, got 0; engine.turbo must be bool, got 'yes'"
    )


def test_a_rule_over_several_values_is_answered_by_name():
    with pytest.raises(ValueError) as refused:
        Car.from_flat({"engine.cylinders": 1, "engine.speed": 5.0})
    assert str(refused.value) == "engine.speed must be above 10 with one cylinder, got 5.0"


@pytest.mark.parametrize(
    "name, reason",
    [
        ("engine.colour", "unknown config value 'engine.colour'; there are: engine.cylinders, "),
        ("colour", "unknown config value 'colour'; there are: doors, engine"),
        ("wheel.size", "unknown config component 'wheel'; there are: engine"),
        ("engine.shaft.size", "unknown config component 'engine.shaft'; there are: engine"),
    ],
)
def test_an_unknown_name_is_answered_with_those_there_are(name, reason):
    with pytest.raises(ValueError) as refused:
        Car.from_flat({name: 1})
    assert str(refused.value).startswith(reason)


def test_a_component_alone_is_made_of_its_own_names():
    assert Engine.from_flat({"cylinders": 6}) == Engine(cylinders=6)
    assert Tuned.from_flat({"cylinders": 6, "boost": 1}).flat()["boost"][0] == 1.0
    with pytest.raises(ValueError, match="^boost must be 0.0 to 2.0 bar, got 3"):
        Tuned.from_flat({"boost": 3})


def test_making_one_and_changing_one_check_as_well():
    for make in (
        lambda: Engine(cylinders=0),
        lambda: dataclasses.replace(Engine(), cylinders=0),
        lambda: Engine(cylinder=4),
    ):
        with pytest.raises(ValidationError, match="cylinder"):
            make()
    with pytest.raises(AttributeError):
        Engine().cylinders = 3


def test_a_default_out_of_range_does_not_pass():
    @dataclass(frozen=True)
    class Wrong(Checked):
        size: float = value(3.0, "Size", "m", 0.0, 1.0)

    with pytest.raises(ValidationError, match="size"):
        Wrong()


def test_equal_ones_hash_alike_and_travel_between_processes():
    car = Car.from_flat({"engine.speed": 60, "doors": 3})
    assert {car: 1}[Car.from_flat({"engine.speed": 60.0, "doors": 3})] == 1
    assert pickle.loads(pickle.dumps(car)) == car
    assert dataclasses.asdict(car)["engine"]["speed"] == 60.0


def test_what_is_known_of_each_value():
    assert list(Car().flat()) == ["doors", *(f"engine.{name}" for name in describe(Engine))]
    assert components(Car) == {"engine": Engine} and list(describe(Car)) == ["doors"]
    assert describe(Engine)["speed"] == {
        "doc": "Speed of the shaft",
        "unit": "Hz",
        "low": 1.0,
        "high": 200.0,
        "choices": (),
        "live": True,
    }
    assert describe(Engine)["fuel"]["choices"] == ("petrol", "diesel")
    assert not describe(Engine)["cylinders"]["live"]
    # an inherited value is described like one of its own
    assert describe(Tuned)["speed"] == describe(Engine)["speed"]
