"""Covariances of motions span what is left out between two keyframes."""

import numpy as np
from random_keyframes import make_keyframe

from vggt3_ros.datasets.recording import Recording
from vggt3_ros.geometry import se3
from vggt3_ros.store.keyframes import NO_STEP, KeyframeStore
from vggt3_ros.store.stored_poses import StoredPoses, chained

SIGMA = np.array([0.01, 0.03, 0.005, 0.004, 0.002, 0.01])


def chain(count=7):
    """StoredPoses of a curved path; the front end says how well it knows each motion."""
    steps = se3.exp(np.array([[0.3, 0.1, 0.05, 0.02, 0.1, 0.5]] * (count - 1)))
    poses = [se3.exp([1.0, 2.0, 0.5, 0.3, -0.2, 1.0])]
    for step in steps:
        poses.append(poses[-1] @ step)
    covariances = [np.diag(SIGMA**2) * (k + 1) for k in range(count)]
    return StoredPoses(np.arange(count), np.arange(count), np.array(poses), covariances)


def scatter(poses, first, last, runs=40000):
    """What the motion from keyframe first to last scatters by when each step between errs as it
    says.
    """
    rng, walked = np.random.default_rng(0), np.tile(np.eye(4), (runs, 1, 1))
    for k in range(first + 1, last + 1):
        step = se3.inverse(poses.T_odom_cam[k - 1]) @ poses.T_odom_cam[k]
        walked = (
            walked
            @ step
            @ se3.exp(rng.multivariate_normal(np.zeros(6), poses.covariances[k], runs))
        )
    return np.cov(
        se3.log(
            se3.inverse(se3.inverse(poses.T_odom_cam[first]) @ poses.T_odom_cam[last]) @ walked
        ).T
    )


def test_the_covariance_across_omitted_keyframes_matches_the_scatter():
    poses = chain()
    kept = poses.only([True, True, False, False, True, True, False])
    assert kept.ids.tolist() == [0, 1, 4, 5]
    expected = scatter(poses, 1, 4)
    np.testing.assert_allclose(kept.covariances[2], expected, atol=0.04 * expected.max())
    np.testing.assert_array_equal(kept.covariances[3], poses.covariances[5])
    assert np.trace(kept.covariances[2]) > 2 * np.trace(poses.covariances[4])


def test_one_unknown_motion_makes_the_whole_unknown():
    poses = chain()
    poses.covariances[3] = None
    kept = poses.only(np.array([1, 1, 1, 0, 1, 1, 1], bool))
    assert kept.covariances[3] is None and kept.covariances[4] is not None
    assert (
        chained(None, np.eye(4), np.eye(6)) is None and chained(np.eye(6), np.eye(4), None) is None
    )


def test_covariances_do_not_span_sessions():
    poses = chain()
    poses = StoredPoses(
        poses.ids,
        poses.stamps_ns,
        poses.T_odom_cam,
        poses.covariances,
        np.array([0, 0, 0, 1, 1, 1, 1]),
    )
    kept = poses.only([True, True, False, True, True, True, True])
    np.testing.assert_array_equal(kept.covariances[2], poses.covariances[3])


def test_the_covariance_spans_a_keyframe_that_is_set_aside(tmp_path):
    with KeyframeStore(tmp_path) as store:
        for i in range(5):
            store.put(make_keyframe(i))
        before = store.poses()
        store.set_aside(2, "it is damaged")
        after = store.poses()
        assert after.ids.tolist() == [0, 1, 3, 4]
        expected = before.only([True, True, False, True, True]).covariances[2]
        np.testing.assert_allclose(after.covariances[2], expected)
        assert np.trace(after.covariances[2]) > np.trace(before.covariances[3])
        # so badly damaged that its pose cannot be read
        with store.database.writing() as connection:
            connection.execute("UPDATE keyframes SET T_odom_cam=? WHERE id=2", (b"gone",))
        assert store.poses().ids.tolist() == [0, 1, 3, 4] and store.poses().covariances[2] is None
        store.note("session", "1")
        for i in (5, 6):
            store.put(make_keyframe(i))
        store.set_aside(5, "the first of its session")
        assert store.poses().covariances[4][0, 0] >= NO_STEP


def test_keyframes_chosen_from_a_recording_know_their_motions_as_well_as_its_steps():
    poses = chain()
    covariances = np.array([np.zeros((6, 6)), *poses.covariances[1:]])
    recording = Recording(
        "a",
        make_keyframe(0).camera,
        np.arange(7),
        lambda i: make_keyframe(i).image,
        None,
        poses.T_odom_cam,
        covariances=covariances,
    )
    frames = recording.keyframes([0, 3, 4, 6], poses.T_odom_cam[[0, 3, 4, 6]]).keyframes
    expected = poses.only([True, False, False, True, True, False, True]).covariances
    assert frames[0].odometry_covariance is None
    for k in (1, 2, 3):
        np.testing.assert_allclose(frames[k].odometry_covariance, expected[k])


def test_the_first_keyframe_that_was_not_merged_gives_the_frame():
    poses = chain()
    assert poses.anchor == 0
    with_merged = StoredPoses(
        poses.ids,
        poses.stamps_ns,
        poses.T_odom_cam,
        poses.covariances,
        np.array([-2, -2, -1, 0, 0, 1, 1]),
    )
    assert with_merged.anchor == 3 and with_merged.only(with_merged.sessions != 0).anchor == 3
    assert with_merged.only(with_merged.sessions < 0).anchor == 0
