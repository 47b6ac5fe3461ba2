"""A refinement as a film: from the odometry's poses to the corrected ones, by way of older
snapshots where the store keeps some.

The states are real: the odometry, and what each refinement published. What lies between two of
them is interpolated, for the eye: the optimizer did not go that way.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vggt3_ros.geometry import se3
from vggt3_ros.store.snapshot import Loop, Snapshot


@dataclass(frozen=True, eq=False)
class State:
    """T_map_cam (N, 4, 4) of the newest snapshot's keyframes at one moment; loops: accepted by
    then, as the snapshot lists them.
    """

    name: str
    T_map_cam: np.ndarray
    loops: tuple[Loop, ...] = ()


@dataclass(frozen=True, eq=False)
class Moment:
    """What is shown at one place of the film."""

    T_map_cam: np.ndarray
    loops: tuple[Loop, ...]
    text: str


@dataclass(frozen=True, eq=False)
class Timeline:
    """states: the odometry first, the newest snapshot last."""

    states: tuple[State, ...]

    @classmethod
    def of(cls, snapshots: Sequence[Snapshot]) -> "Timeline":
        """Of at least one snapshot, the oldest first."""
        newest = snapshots[-1]
        before = odometry(newest)
        refined = (
            State(
                f"refinement {snapshot.generation}",
                _carried_on(newest, snapshot, before),
                tuple(loop for loop in snapshot.loops if loop.accepted),
            )
            for snapshot in snapshots
        )
        return cls((State("odometry", before), *refined))

    @property
    def end(self) -> float:
        return float(len(self.states) - 1)

    def at(self, place: float) -> Moment:
        """place: 0 (odometry) to `end` (newest); between two whole numbers, interpolated.

        Loops that the later state accepted beyond the earlier one appear one after the other, in
        the order in which they are listed: that in which their pairs were tested.
        """
        place = float(np.clip(place, 0.0, self.end))
        first = min(int(place), len(self.states) - 2)
        begin, end, share = self.states[first], self.states[first + 1], place - first
        if share >= 1.0:
            text = end.name
        elif share <= 0.0:
            text = begin.name
        else:
            text = f"{begin.name} to {end.name}: {share:.0%}, interpolated"
        loops = _appearing(begin.loops, end.loops, share)
        text += f"; {len(loops)} of {len(end.loops)} loops" if end.loops else ""
        return Moment(between(begin.T_map_cam, end.T_map_cam, share), loops, text)


def odometry(snapshot: Snapshot) -> np.ndarray:
    """T_map_cam (N, 4, 4) as the odometry alone has it: each session's is put where the map has
    the session's first keyframe.
    """
    out, sessions = np.array(snapshot.T_odom_cam, float), np.asarray(snapshot.sessions)
    for session in np.unique(sessions):
        rows = np.flatnonzero(sessions == session)
        first = rows[np.argmin(snapshot.stamps_ns[rows])]
        T_map_odom = snapshot.T_map_cam[first] @ se3.inverse(snapshot.T_odom_cam[first])
        out[rows] = T_map_odom @ snapshot.T_odom_cam[rows]
    return out


def between(begin: np.ndarray, end: np.ndarray, share: float) -> np.ndarray:
    """Transforms (N, 4, 4), `share` in [0, 1] of the way: a straight line, and a turn about one
    axis.
    """
    if share <= 0.0 or share >= 1.0:
        return np.array(end if share >= 1.0 else begin, float)
    out: np.ndarray = begin @ se3.exp(share * se3.log(se3.inverse(begin) @ end))
    return out


def _carried_on(newest: Snapshot, older: Snapshot, before: np.ndarray) -> np.ndarray:
    """Poses of the newest snapshot's keyframes as they were believed to be after an older
    refinement: by it, or by odometry from the nearest keyframe of the session that it has.
    """
    row = {int(i): k for k, i in enumerate(older.keyframe_ids)}
    known = np.array([row.get(int(i), -1) for i in newest.keyframe_ids])
    out, sessions = np.array(before), np.asarray(newest.sessions)
    for k in range(len(newest)):
        if known[k] >= 0:
            out[k] = older.T_map_cam[known[k]]
            continue
        same = np.flatnonzero((sessions == sessions[k]) & (known >= 0))
        if len(same):
            j = same[np.argmin(np.abs(newest.stamps_ns[same] - newest.stamps_ns[k]))]
            step = se3.inverse(newest.T_odom_cam[j]) @ newest.T_odom_cam[k]
            out[k] = older.T_map_cam[known[j]] @ step
    return out


def _appearing(begin: tuple[Loop, ...], end: tuple[Loop, ...], share: float) -> tuple[Loop, ...]:
    if share <= 0.0:
        return begin
    held = {(loop.source_id, loop.target_id) for loop in begin}
    new = [loop for loop in end if (loop.source_id, loop.target_id) not in held]
    shown = {id(loop) for loop in new[: int(np.ceil(share * len(new)))]}
    return tuple(
        loop for loop in end if (loop.source_id, loop.target_id) in held or id(loop) in shown
    )
