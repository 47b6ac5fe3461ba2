"""JSON for others to read: what has no number is null. Python's own writes NaN and Infinity, which
no other parser takes.
"""

import json
import math


def dumps(value, **options):
    """Text of dicts, lists, numbers (numpy's too), texts. options: of json.dumps."""
    return json.dumps(finite(value), allow_nan=False, **options)


def finite(value):
    """The same with None for numbers that are not finite, lists for arrays."""
    if hasattr(value, "tolist"):  # numpy's
        value = value.tolist()
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
