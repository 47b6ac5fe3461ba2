"""Text files of the TUM layout: trajectories and lists, one line per stamp."""

import logging
from collections.abc import Sequence
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from pathlib import Path

import numpy as np

from vggt3_ros.geometry import se3

YEAR_S = 365.25 * 86400
# thresholds that separate the units for stamps after 1973; 1e11 s is the year 5138
Rows = list[tuple[int, list[str]]]  # (line number, fields)
UNITS = (("nanoseconds", 1e17, 1), ("microseconds", 1e14, 10**3), ("milliseconds", 1e11, 10**6))
_log = logging.getLogger(__name__)


def read_trajectory_tum(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Read 'stamp tx ty tz qx qy qz qw' lines as (N,) int64 nanoseconds and (N, 4, 4) poses.

    Raise ValueError naming the invalid line, or if no line has a pose.
    """
    stamps, poses, lost = read_tracked_tum(path)
    if not len(stamps):
        raise ValueError(
            f"{path}: none of the {len(lost)} lines has a pose: tracking was lost throughout"
        )
    return stamps, poses


def read_tracked_tum(path: str | Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As :func:`read_trajectory_tum`, and return also the stamps at which tracking was lost: lines
    with a null quaternion, or only NaN. A warning gives their number.
    """
    rows = read_rows(path, 8, "stamp tx ty tz qx qy qz qw")
    poses, known = [], np.ones(len(rows), bool)
    for row, (line, fields) in enumerate(rows):
        try:
            values = [float(field) for field in fields[1:]]
            if not any(values[3:]) or np.isnan(values).all():
                known[row] = False
                continue
            if not np.all(np.isfinite(values)):
                raise ValueError("it contains NaN or infinity")
            poses.append(se3.from_quaternion(values[:3], values[3:]))
        except ValueError as error:
            raise ValueError(
                f"{path}:{line}: {error}; expected 'stamp tx ty tz qx qy qz qw'"
            ) from error
    stamps = read_stamps(path, rows)
    if not known.all():
        _log.warning(
            "%s: %d of %d lines have no pose, the first is line %d: tracking was lost there",
            path,
            np.sum(~known),
            len(rows),
            rows[int(np.argmin(known))][0],
        )
    return stamps[known], np.array(poses).reshape(-1, 4, 4), stamps[~known]


def write_trajectory_tum(
    path: str | Path,
    stamps_ns: np.ndarray | Sequence[int],
    T_world_cam: np.ndarray | Sequence[np.ndarray],
    comment: str = "T_world_cam",
) -> None:
    """Write (N,) nanoseconds and (N, 4, 4) poses as 'stamp tx ty tz qx qy qz qw' lines, with a
    resolution of 0.1 micrometre.
    """
    translation, quaternion = se3.to_quaternion(np.asarray(T_world_cam).reshape(-1, 4, 4))
    with open(path, "w") as file:
        file.write(f"# timestamp tx ty tz qx qy qz qw ({comment})\n")
        for stamp, t, q in zip(stamps_ns, translation, quaternion, strict=True):
            file.write(
                " ".join([seconds(stamp)] + [f"{v:.7f}" for v in t] + [f"{v:.9f}" for v in q])
                + "\n"
            )


def read_rows(path: str | Path, count: int, names: str) -> Rows:
    """Return (line number, fields) of all lines of `count` fields; comments are skipped.

    names: of the fields, for messages. Raise ValueError naming the invalid line.
    """
    try:
        # Windows editors write a byte-order mark
        lines = Path(path).read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} cannot be read: {error}; expected a text file of '{names}' lines"
        ) from error
    rows = []
    for number, line in enumerate(lines, start=1):
        fields = line.split("#")[0].replace(",", " ").split()
        if fields and len(fields) != count:
            raise ValueError(
                f"{path}:{number}: {len(fields)} fields, expected the {count} fields '{names}'; correct the line"
            )
        if fields:
            rows.append((number, fields))
    if not rows:
        raise ValueError(f"{path} has no '{names}' line: it must have one per image or pose")
    return rows


def read_stamps(path: str | Path, rows: Rows) -> np.ndarray:
    """Convert the first field of every row from seconds to int64 nanoseconds (N,), increasing.

    Other units of stamps since 1970 are recognised by their magnitude: stamps in nanoseconds (as
    ORB-SLAM3 writes), microseconds or milliseconds are read as such, and the log says so. Raise
    ValueError naming the invalid line.
    """
    stamps: list[int] = []
    unit = _unit(path, rows)
    for number, fields in rows:
        try:
            # Decimal: float seconds lose the nanoseconds
            stamp = int((Decimal(fields[0]) * unit).to_integral_value())
        except (InvalidOperation, ValueError, OverflowError) as error:
            raise ValueError(
                f"{path}:{number}: '{fields[0]}' is not a timestamp: write seconds, such as 1305031102.175304"
            ) from error
        if not 0 <= stamp < 2**63 or (stamps and stamp <= stamps[-1]):
            raise ValueError(
                f"{path}:{number}: timestamp {fields[0]} is out of range or does not increase: sort the "
                "lines and remove duplicates"
            )
        stamps.append(stamp)
    return np.array(stamps, np.int64)


def _unit(path: str | Path, rows: Rows) -> int:
    """Return the nanoseconds per unit of the stamps, judged by the largest."""
    largest = 0.0
    for _, fields in rows:
        with suppress(ValueError):  # reported later, with its line
            largest = max(largest, float(fields[0]))
    if not largest < float("inf"):
        return 10**9
    for name, least, unit in UNITS:
        if largest >= least:
            _log.warning(
                "%s: the stamps are read as %s; as seconds they would lie in the year %.0f",
                path,
                name,
                1970 + largest / YEAR_S,
            )
            return unit
    return 10**9


def seconds(stamp_ns: int) -> str:
    """Format nanoseconds as seconds with nine decimals."""
    return f"{int(stamp_ns) // 10**9}.{int(stamp_ns) % 10**9:09d}"
