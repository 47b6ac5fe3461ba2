"""Loops and steps of the odometry are weighed against each other: cuts decide, not who came
first.
"""

import numpy as np
import pytest
from pose_graph_problems import LOOP, problem, true_loop

from vggt3_ros.config import PoseGraphConfig
from vggt3_ros.datasets.drift import trajectory_error
from vggt3_ros.geometry import se3
from vggt3_ros.refinement import pose_graph
from vggt3_ros.refinement.consensus import consensus, cost, weigh
from vggt3_ros.refinement.odometry_steps import CONTRADICTS, judge
from vggt3_ros.refinement.pose_graph import Edge

AT = 40  # the step that breaks: between the rounds


def broken(odometry, off=(0.4, 0.3, 0.0, 0.0, 0.5, 0.0)):
    moved = odometry.copy()
    moved[AT:] = (
        odometry[AT - 1]
        @ (se3.inverse(odometry[AT - 1]) @ odometry[AT])
        @ se3.exp(np.array(off))
        @ se3.inverse(odometry[AT])
        @ odometry[AT:]
    )
    return moved


def across(loops):
    return [
        loop
        for loop in loops
        if min(loop.source, loop.target) < AT <= max(loop.source, loop.target)
    ]


@pytest.mark.parametrize("seed", range(3))
def test_three_right_loops_win_against_one_step_and_one_false_loop_does_not(seed):
    truth, odometry, noise, loops, rng = problem(seed)
    near = [loop for loop in loops if loop not in across(loops)]
    three = [true_loop(truth, AT + 5 * k, 3 + 5 * k, rng) for k in range(3)]
    T, config, none = broken(odometry), PoseGraphConfig(), np.zeros(len(truth), bool)
    solution, steps = weigh(T, judge(T, noise, []), none, near + three, config, T)
    # loops over three keyframes do not tell steps between their ends apart
    (given_up,) = np.flatnonzero(steps)
    assert solution.kept.all()
    assert (
        abs(given_up - AT) <= 3
        and trajectory_error(solution.T_map_cam, truth) < trajectory_error(T, truth) / 2
    )
    false = Edge(
        60,
        10,
        se3.inverse(truth[60]) @ se3.exp([1.2, 0.5, 0, 0, 0.4, 0]) @ truth[10],
        np.diag(1 / LOOP**2),
    )
    solution, steps = weigh(
        odometry, judge(odometry, noise, []), none, near + three + [false], config, odometry
    )
    assert not steps.any() and solution.kept[:-1].all() and not solution.kept[-1]


@pytest.mark.parametrize("seed", range(3))
def test_a_broken_step_and_false_loops_at_once(seed):
    truth, odometry, noise, loops, rng = problem(seed)
    T, false = broken(odometry), []
    # else a step beside it may be the broken one
    loops += [true_loop(truth, AT + 2, AT, rng), true_loop(truth, AT - 1, AT - 3, rng)]
    for _ in range(6):
        i, j = sorted(rng.choice(len(truth), 2, replace=False))[::-1]
        wrong = np.concatenate([rng.uniform(-3, 3, 3), rng.uniform(-1.5, 1.5, 3)])
        false.append(
            Edge(
                int(i),
                int(j),
                se3.inverse(truth[i]) @ truth[j] @ se3.exp(wrong),
                np.diag(1 / LOOP**2),
            )
        )
    steps = judge(T, noise, [])
    solution, given_up = weigh(
        T, steps, np.zeros(len(truth), bool), loops + false, PoseGraphConfig(), T
    )
    given_up |= steps.off(T, solution.T_map_cam)[1] > CONTRADICTS
    assert np.flatnonzero(given_up).tolist() == [AT]
    clean = pose_graph.solve(odometry, noise, loops, PoseGraphConfig()).T_map_cam
    solution = pose_graph.solve(
        T, steps.widened(given_up), loops + false, PoseGraphConfig(), solution.T_map_cam
    )
    assert trajectory_error(solution.T_map_cam, truth) < 1.3 * trajectory_error(clean, truth)
    assert not solution.kept[len(loops) :].any() and solution.kept[: len(loops)].all()
    assert cost(T, steps, loops + false, solution.T_map_cam) <= cost(T, steps, loops + false, T)


def test_a_step_that_images_confirm_is_held_against_loops_that_would_break_another():
    """As of two rooms that look alike: the way from one to the other was seen step by step."""
    truth, odometry, noise, loops, rng = problem(4)
    near = [loop for loop in loops if loop not in across(loops)]
    neighbours = [true_loop(truth, k, k - 1, rng) for k in range(1, len(truth))]
    shifted = se3.exp([2.5, 0, 0, 0, 0, 0])
    alike = [
        Edge(AT + k, k, se3.inverse(truth[AT + k]) @ shifted @ truth[k], np.diag(1 / LOOP**2))
        for k in range(5, 29, 3)
    ]
    steps = judge(odometry, noise, neighbours)
    assert steps.confirmed[1:].mean() > 0.9
    found, given_up, held = consensus(odometry, steps, near + neighbours + alike, odometry)
    assert not given_up[steps.confirmed].any() and not held[-len(alike) :].any()
    assert trajectory_error(found, truth) < 0.1
    unseen, given_up = weigh(
        odometry,
        judge(odometry, noise, []),
        np.zeros(len(truth), bool),
        near + alike,
        PoseGraphConfig(),
        odometry,
    )
    # nothing tells these from right ones
    assert given_up.any() and unseen.kept[-len(alike) :].all()
