"""Which loops are listed: bounded, both kinds, those first that deserve a look."""

import numpy as np

from vggt3_ros.evaluation.report_page import loop_choice
from vggt3_ros.evaluation.report_page.loop_choice import counted, in_order, listed
from vggt3_ros.store.snapshot import Loop, Snapshot
from vggt3_ros.surface.fusion import empty_map


def made(k, accepted, residual=float("nan"), measured=True, origin="place"):
    return Loop(
        k,
        0,
        accepted,
        "" if accepted else "no",
        origin,
        30,
        np.eye(4) if measured else None,
        np.eye(6) if measured else None,
        residual,
        residual,
    )


def snapshot(loops, keyframes=2000):
    poses = np.tile(np.eye(4), (keyframes, 1, 1))
    ids = np.arange(keyframes)
    return Snapshot(
        1, ids, ids, poses, poses, np.tile(np.eye(6), (keyframes, 1, 1)), tuple(loops), empty_map()
    )


def test_doubtful_ones_come_first():
    loops = [
        made(1, True, 0.01),
        made(2, False, measured=False),
        made(3, True, 0.2),
        made(4, False, 1.5),
    ]
    assert [loop.source_id for loop in in_order(snapshot(loops))] == [4, 3, 1, 2]


def test_both_kinds_are_listed_however_many_there_are_of_one():
    for many, few in ((True, False), (False, True)):
        loops = [made(k, many, 0.01) for k in range(1500)] + [
            made(1500 + k, few) for k in range(7)
        ]
        shown = listed(in_order(snapshot(loops)))
        assert len(shown) == loop_choice.MOST_LISTED
        assert sum(found.accepted is few for _, found in shown) == 7
        assert [k for k, _ in shown] == sorted({k for k, _ in shown})


def test_loops_of_keyframes_that_the_map_does_not_hold_are_left_out():
    assert [
        loop.source_id for loop in in_order(snapshot([made(5, True), made(50, True)], 10))
    ] == [5]


def test_counts_are_of_all_loops():
    loops = [made(1, True), made(2, False), made(3, False), made(4, True, origin="memory")]
    assert counted(snapshot(loops)) == [("place", 1, 2), ("memory", 1, 0)]
