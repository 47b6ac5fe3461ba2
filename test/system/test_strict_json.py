"""JSON for any parser: no NaN or Infinity at any depth, and numpy's numbers as numbers."""

import json

import numpy as np
import pytest

from vggt3_ros.system import strict_json


def refused(constant):
    raise AssertionError(f"{constant} is no JSON")


@pytest.mark.parametrize(
    "number", [float("nan"), float("inf"), -float("inf"), np.float32("nan"), np.float64("inf")]
)
def test_non_finite_numbers_are_null_at_any_depth(number):
    text = strict_json.dumps(
        {
            "a": number,
            "b": [1, (number, {"c": number})],
            "d": np.array([1.5, number]),
            "e": True,
            "f": None,
        }
    )
    assert json.loads(text, parse_constant=refused) == {
        "a": None,
        "b": [1, [None, {"c": None}]],
        "d": [1.5, None],
        "e": True,
        "f": None,
    }


def test_numpys_numbers_are_numbers():
    values = {"i": np.int64(2**62), "f": np.float32(0.5), "b": np.bool_(True), "m": np.eye(2)}
    assert json.loads(strict_json.dumps(values)) == {
        "i": 2**62,
        "f": 0.5,
        "b": True,
        "m": [[1.0, 0.0], [0.0, 1.0]],
    }
