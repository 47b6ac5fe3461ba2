"""Covariances of all poses at once are those that GTSAM computes one by one."""

import gtsam
import numpy as np
import pytest
from pose_graph_problems import problem

from vggt3_ros.config import PoseGraphConfig
from vggt3_ros.refinement import pose_graph
from vggt3_ros.refinement.marginals import all_marginals


@pytest.mark.parametrize("seed, loops_used", [(0, 50), (1, 0), (2, 7)])
def test_they_are_those_of_gtsam(seed, loops_used):
    _, odometry, noise, loops, _ = problem(seed)
    solution = pose_graph.solve(
        odometry, noise, loops[:loops_used], PoseGraphConfig(), covariances=False
    )
    graph = pose_graph.build(odometry, noise, loops[:loops_used], PoseGraphConfig())
    values = gtsam.Values()
    for i, pose in enumerate(solution.T_map_cam):
        values.insert(i, gtsam.Pose3(pose))
    expected = gtsam.Marginals(graph, values)
    got = all_marginals(graph, values)
    assert got.shape == (len(odometry), 6, 6)
    for i, covariance in enumerate(got):
        reference = expected.marginalCovariance(i)
        np.testing.assert_allclose(
            covariance, reference, atol=1e-6 * np.abs(reference).max(), rtol=1e-5
        )


def test_what_progress_raises_ends_it():
    _, odometry, noise, loops, _ = problem(0)
    graph = pose_graph.build(odometry, noise, loops[:0], PoseGraphConfig())
    values = gtsam.Values()
    for i, pose in enumerate(odometry):
        values.insert(i, gtsam.Pose3(pose))

    def stop(fraction):
        assert 0 <= fraction <= 1
        if fraction > 0.5:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        all_marginals(graph, values, stop)
