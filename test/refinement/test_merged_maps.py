"""Two runs through the same rooms, each with odometry and drift of its own, become one map."""

from dataclasses import replace

import numpy as np
import pytest

from vggt3_ros.backend import Backend
from vggt3_ros.config import BackendConfig
from vggt3_ros.geometry import se3
from vggt3_ros.refinement import merging
from vggt3_ros.store.keyframes import FIRST_ID, KeyframeStore

START = se3.exp([2.0, -1.0, 0.3, 0.05, -0.02, 0.8])  # where the second run's odometry begins
LATER = 3600 * 10**9
QUICK = BackendConfig.from_flat({"device": "cpu", "map.voxel_size": 0.05})


@pytest.fixture(scope="module")
def merged(rendered, refined_folder, tmp_path_factory):
    """(Loaded, Snapshot of both runs, indices of its keyframes in `rendered`)"""
    second = range(6, 22, 3)
    drift = [se3.exp([0.004 * k, 0.002 * k, 0, 0, 0, 0.001 * k]) for k in range(len(second))]
    with KeyframeStore(tmp_path_factory.mktemp("merged") / "store") as store:
        backend = Backend(store, QUICK)
        for k, at in enumerate(second):
            frame = rendered.keyframes[at]
            backend.add(
                replace(
                    frame,
                    id=k,
                    stamp_ns=frame.stamp_ns + LATER,
                    T_odom_cam=START @ rendered.T_world_cam[at] @ drift[k],
                )
            )
        first = backend.refine()
        loaded = merging.merge(store, refined_folder, first, backend.localize)
        snapshot = backend.refine()
    return loaded, snapshot, np.array([*range(len(rendered.keyframes)), *second])


def test_the_loaded_map_is_placed_to_centimetres(merged, rendered):
    loaded, snapshot, _ = merged
    assert loaded.added == len(rendered.keyframes) and len(snapshot) == len(rendered.keyframes) + 6
    # The first run's map frame is that of its odometry, which began at the truth.
    apart = (
        se3.inverse(START @ rendered.T_world_cam[0]) @ loaded.T_map_loaded @ rendered.T_odom_cam[0]
    )
    assert np.linalg.norm(apart[:3, 3]) < 0.1 and se3.rotation_angle(apart) < 0.05


def test_what_is_merged_does_not_move_our_frame(merged, rendered):
    """It is placed to centimetres; our first keyframe stays where its own odometry has it, to the
    anchor's tenth of a millimetre.
    """
    _, snapshot, _ = merged
    first = int(np.flatnonzero(snapshot.sessions >= 0)[0])
    assert first == len(rendered.keyframes)
    np.testing.assert_allclose(
        snapshot.T_map_cam[first], START @ rendered.T_world_cam[6], atol=2e-3
    )


def test_the_next_refinement_ties_both_runs_together(merged, rendered):
    _, snapshot, index = merged
    across = [
        loop
        for loop in snapshot.loops
        if loop.accepted and (loop.source_id >= FIRST_ID) != (loop.target_id >= FIRST_ID)
    ]
    assert len(across) >= 6
    error = se3.inverse(START @ rendered.T_world_cam[index]) @ snapshot.T_map_cam
    # Against one rigid placement of all keyframes of both runs: the map is one.
    assert np.sqrt((error[:, :3, 3] ** 2).sum(axis=1).mean()) < 0.05
