"""Strict JSON for other parsers: NaN and infinities become null. Python's json module writes them
as NaN and Infinity, which RFC 8259 forbids.
"""

import json
import math
from typing import Any


def dumps(value: object, **options: Any) -> str:
    """Serialize dicts, lists, numbers (numpy's too) and strings. options: those of json.dumps."""
    return json.dumps(finite(value), allow_nan=False, **options)


def finite(value: object) -> object:
    """Return `value` with None for each non-finite number and lists for numpy arrays."""
    if hasattr(value, "tolist"):  # numpy
        value = value.tolist()
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
