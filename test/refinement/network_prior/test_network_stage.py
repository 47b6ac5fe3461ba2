"""The network's stage of a refinement: what it hands on of a view, in metres, and what it refuses
with the reason.
"""

from types import SimpleNamespace

import numpy as np
import pytest
from stand_in_network import room_tour, stand_in

from vggt3_ros.adapters.client import AdapterError
from vggt3_ros.config import NetworkConfig
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.network.keyframe_view import NetworkView
from vggt3_ros.network.memory_plan import NotEnoughMemory
from vggt3_ros.refinement.network_prior.network_stage import NetworkStage
from vggt3_ros.store.stored_poses import StoredPoses

# keyframes, metres a unit, metres to the wall that all of them see
COUNT, SCALE, FAR = 60, 0.4, 3.0
CAMERA = Camera(64, 48, 50.0, 50.0, 31.5, 23.5)
TRUTH = room_tour(COUNT)


class Store:
    def __init__(self, folder):
        self.snapshots = folder

    def camera(self, keyframe_id):
        return CAMERA

    def poses(self):
        return StoredPoses(
            np.arange(COUNT), np.arange(COUNT), TRUTH, [None] * COUNT, np.zeros(COUNT, np.int64)
        )


class Frames:
    """Keyframes without images: those of `measured` have depth by a sensor, the others what is
    estimated.
    """

    def __init__(self, measured=()):
        self.measured, self.estimated = set(measured), {}

    def __call__(self, keyframe_id):
        sensor = keyframe_id in self.measured
        depth = (
            np.full((12, 16), FAR, np.float32)
            if sensor
            else self.estimated.get(keyframe_id, np.zeros((12, 16), np.float32))
        )
        return SimpleNamespace(
            camera=CAMERA, cell_depth=depth, has_depth=bool(depth.any()), estimated=not sensor
        )

    def estimate(self, keyframe_id, depth):
        self.estimated[keyframe_id] = depth


class Viewer:
    """Sees the truth in a frame and scale of its own; `change` alters its NetworkView, `fault` is
    raised instead.
    """

    pose_convention = "camera_from_world"

    def __init__(self, change=lambda view: view, fault=None, **quality):
        self.poses, self.confidence, self.wrong = stand_in(TRUTH, SCALE, **quality)
        self._change, self._fault, self.mapped = change, fault, []

    def fingerprint(self):
        return "stand-in"

    def map(self, load, cameras, depth_of, step):
        step(0.5)
        if self._fault is not None:
            raise self._fault
        self.mapped.append(len(cameras))
        count = len(cameras)
        depth = {
            i: (np.full((12, 16), FAR / SCALE, np.float32), np.full((12, 16), 5.0, np.float32))
            for i in depth_of
        }
        return self._change(
            NetworkView(
                self.poses[:count], self.confidence[:count], depth, None, self.pose_convention
            )
        )


def odometry(T_odom_cam=TRUTH):
    count = len(T_odom_cam)
    return StoredPoses(
        np.arange(count), np.arange(count), T_odom_cam, [None] * count, np.zeros(count, np.int64)
    )


@pytest.fixture
def stage(tmp_path):
    return lambda viewer, frames=None, **config: NetworkStage(
        viewer, Store(tmp_path), frames or Frames(), NetworkConfig(**config)
    )


def test_depth_in_metres_edges_and_candidates_come_from_what_is_trusted(stage):
    viewer, frames = Viewer(), Frames()
    advice = stage(viewer, frames)(odometry(), lambda fraction: None)
    wrong = set(np.flatnonzero(viewer.wrong))
    assert len(wrong) == 12 and advice.report["used"]
    assert (
        wrong.isdisjoint(frames.estimated)
        and len(frames.estimated) > 40
        and advice.fresh == set(frames.estimated)
    )
    assert all(
        np.median(depth) == pytest.approx(FAR, rel=0.05) for depth in frames.estimated.values()
    )
    ends = {end for edge in advice.edges for end in (edge.source, edge.target)}
    assert len(advice.edges) > 10 and wrong.isdisjoint(ends)
    for edge in advice.edges:
        apart = (
            se3.inverse(edge.T_source_target)
            @ se3.inverse(TRUTH[edge.source])
            @ TRUTH[edge.target]
        )
        assert np.linalg.norm(apart[:3, 3]) < 0.4
    assert advice.candidates and all(
        i > j and i not in wrong and j not in wrong for i, j in advice.candidates
    )


def test_a_sensor_s_depth_sets_the_scale_and_stays(stage):
    frames = Frames(measured=range(0, COUNT, 2))
    advice = stage(Viewer(noise_m=0.05), frames)(odometry(), lambda fraction: None)
    assert advice.report["scale_by_sensor"] == pytest.approx(SCALE, rel=1e-3)
    assert advice.report["metres_per_unit"] == pytest.approx(SCALE, rel=0.01)
    assert frames.measured.isdisjoint(frames.estimated) and frames.estimated


def test_depth_is_left_alone_where_it_is_not_to_be_estimated(stage):
    frames = Frames()
    assert stage(Viewer(), frames, estimate_depth=False)(odometry(), lambda fraction: None).report[
        "used"
    ]
    assert not frames.estimated


def test_an_alignment_that_moved_takes_the_depth_of_before_along(stage):
    """Another refinement with the same view but an odometry ten percent longer: depth that was
    handed out grows with it.
    """
    frames = Frames()
    network = stage(Viewer(outliers=0.0, noise_m=0.002, warp_m=0.0), frames)
    network(odometry(), lambda fraction: None)
    before = {i: float(np.median(depth)) for i, depth in frames.estimated.items()}
    longer = TRUTH.copy()
    longer[:, :3, 3] *= 1.1
    advice = network(odometry(longer), lambda fraction: None)
    assert network.scene.viewer.mapped == [COUNT]  # nothing was looked at anew
    assert all(
        np.median(frames.estimated[i]) == pytest.approx(1.1 * metres, rel=0.01)
        for i, metres in before.items()
    )
    assert advice.fresh == set(before)


@pytest.mark.parametrize(
    "fault",
    [
        AdapterError("the process of the adapter 'x' ended (SIGKILL)"),
        NotEnoughMemory("4 GB are missing"),
    ],
)
def test_a_network_that_fails_is_no_error_and_is_asked_again(stage, fault, caplog):
    viewer = Viewer(fault=fault)
    network = stage(viewer)
    advice = network(odometry(), lambda fraction: None)
    assert (
        advice.report == {"used": False, "summary": f"not used: {fault}"}
        and not advice.edges
        and not advice.candidates
    )
    assert str(fault) in caplog.text
    viewer._fault = None
    assert network(odometry(), lambda fraction: None).report["used"]


@pytest.mark.parametrize("convention", ["camera_from_world", "world_from_camera"])
def test_poses_read_the_wrong_way_are_refused_and_the_other_way_is_named(stage, convention):
    def backwards(view):
        return NetworkView(
            se3.inverse(view.T_network_cam), view.confidence, view.depth, None, convention
        )

    viewer = Viewer(change=backwards)
    network = stage(viewer)
    (other,) = {"camera_from_world", "world_from_camera"} - {convention}
    for _ in range(2):
        advice = network(odometry(), lambda fraction: None)
    assert len(viewer.mapped) == 1  # a long look would show the same again
    assert (
        not advice.report["used"]
        and f"only when read as {other}: correct network.pose_convention"
        in advice.report["summary"]
    )


def test_the_reading_that_was_checked_is_told_and_logged(stage, caplog):
    with caplog.at_level("INFO"):
        report = stage(Viewer())(odometry(), lambda fraction: None).report
    assert (
        report["pose_convention"] == "camera_from_world"
        and "poses read as camera_from_world" in report["summary"]
    )
    assert report["summary"] in caplog.text


def test_a_network_that_was_given_the_odometry_does_not_vouch_for_it(stage):
    def given(view):
        return NetworkView(
            view.T_network_cam,
            view.confidence,
            view.depth,
            None,
            view.pose_convention,
            metric=True,
            given_poses=True,
        )

    frames = Frames()
    advice = stage(Viewer(change=given), frames)(odometry(), lambda fraction: None)
    assert advice.edges == () and advice.candidates and frames.estimated
    assert (
        "where it claims metres" in advice.report["summary"]
        and "its motions are not used" in advice.report["summary"]
    )


def test_poses_that_have_nothing_to_do_with_the_odometry_are_refused(stage):
    def other(view):
        shuffled = np.random.default_rng(0).permutation(COUNT)
        return NetworkView(
            view.T_network_cam[shuffled], view.confidence, view.depth, None, view.pose_convention
        )

    advice = stage(Viewer(change=other))(odometry(), lambda fraction: None)
    assert not advice.report["used"] and (
        "disagree" in advice.report["summary"] or "share no rotation" in advice.report["summary"]
    )


def test_two_keyframes_are_too_few(stage):
    assert (
        "too few" in stage(Viewer())(odometry(TRUTH[:2]), lambda fraction: None).report["summary"]
    )


def test_an_image_is_placed_only_by_a_network_that_keeps_a_scene(stage):
    network = stage(Viewer())
    network(odometry(), lambda fraction: None)
    snapshot = SimpleNamespace(keyframe_ids=np.arange(COUNT), T_map_cam=TRUTH)
    assert network.place(np.zeros((48, 64, 3), np.uint8), CAMERA, snapshot) is None
