import numpy as np
import pytest

from vggt3_ros.datasets.drift import trajectory_error
from vggt3_ros.datasets.synthetic import apartment
from vggt3_ros.datasets.synthetic.flat import BEDROOM, KITCHEN, LIVING, STUDY
from vggt3_ros.evaluation.cloud import surface_error
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera

CAMERA = Camera(160, 120, 131.25, 131.25, 79.5, 59.5)  # the default view at a quarter of its size


@pytest.fixture(scope="module")
def sequence():
    return apartment.sequence(queries=20, camera=CAMERA, covariances=True)


def test_one_round_closes_the_loop_with_drifting_odometry(sequence):
    assert 110 <= len(sequence) <= 135 and len(sequence.queries) == 20
    assert trajectory_error(sequence.T_odom_cam, sequence.groundtruth) == pytest.approx(
        0.35, abs=0.001
    )
    start, end = sequence.groundtruth[0], sequence.groundtruth[-1]
    assert np.linalg.norm(start[:3, 3] - end[:3, 3]) < 0.5
    first, last = sequence.keyframes[0], sequence.keyframes[-1]
    assert first.image.shape == (120, 160, 3) and first.odometry_covariance.shape == (6, 6)
    unlike = lambda other: np.abs(first.image.astype(int) - other.image).mean()
    assert unlike(last) < unlike(sequence.keyframes[40])


def test_every_room_is_walked_and_asked_about(sequence):
    queries = np.array([query.T_world_cam[:2, 3] for query in sequence.queries])
    for room in (LIVING, KITCHEN, BEDROOM, STUDY):
        low, high = np.min(room, axis=0), np.max(room, axis=0)
        inside = lambda xy, low=low, high=high: ((xy > low) & (xy < high)).all(axis=-1).sum()
        assert inside(sequence.groundtruth[:, :2, 3]) >= 8 and inside(queries) >= 2


def test_the_camera_keeps_clear_of_everything(sequence):
    scene = apartment.surfaces()
    for poses in (
        sequence.groundtruth,
        np.array([query.T_world_cam for query in sequence.queries]),
    ):
        assert scene.distance(poses[:, :3, 3]).min() > 0.25
    steps = sequence.groundtruth[:, :3, 3]
    assert not scene.blocked(steps[:-1], steps[1:]).any()  # through doors, not through walls


def test_depth_lies_on_the_true_surfaces(sequence):
    y, x = np.mgrid[0:120:3, 0:160:3]
    points = []
    for index in range(0, len(sequence), 12):
        depth = sequence.keyframes[index].depth[y, x]
        known = depth > 0
        assert known.mean() > 0.5
        camera_points = CAMERA.unproject(np.stack([x, y], -1)[known], depth[known])
        points.append(se3.transform_points(sequence.groundtruth[index], camera_points))
    points = np.concatenate(points)
    error = surface_error(points, apartment.surfaces())
    assert error.median_m < 0.006 and error.p90_m < 0.03
    assert surface_error(points + (0.05, 0.05, 0.05), apartment.surfaces()).median_m > 0.02


def test_views_hold_texture(sequence):
    """Few frames of a home are blank: the image changes somewhere in most of its parts."""
    parts = [
        sequence.keyframes[i].image.mean(axis=-1).reshape(6, 20, 8, 20).std(axis=(1, 3))
        for i in range(0, len(sequence), 9)
    ]
    assert np.mean(np.array(parts) > 6) > 0.6
    means = [sequence.keyframes[i].image.mean() for i in range(0, len(sequence), 9)]
    assert min(means) > 85 and max(means) < 165


def test_frames_are_repeatable_and_fewer_keyframes_are_the_first_ones(sequence):
    short = apartment.sequence(keyframes=5, queries=0, camera=CAMERA)
    assert len(short) == 5 and short.queries == []
    assert np.array_equal(short.groundtruth, sequence.groundtruth[:5])
    assert np.array_equal(short.keyframes[3].image, sequence.keyframes[3].image)
    assert np.array_equal(short.keyframes[3].depth, sequence.keyframes[3].depth)
    exact = (
        apartment.sequence(keyframes=5, queries=0, camera=CAMERA, depth_noise=0).keyframes[3].depth
    )
    known = short.keyframes[3].depth > 0
    assert 1e-4 < np.abs(exact - short.keyframes[3].depth)[known].mean() < 0.02


def test_another_round_for_more_keyframes():
    longer = apartment.sequence(keyframes=200, queries=0, camera=CAMERA)
    assert len(longer) == 200
    gaps = np.linalg.norm(np.diff(longer.groundtruth[:, :3, 3], axis=0), axis=1)
    assert gaps.max() < 0.4  # also where the rounds meet


def test_written_once_and_read_from_its_files(tmp_path):
    options = {"keyframes": 4, "queries": 2, "camera": CAMERA}
    sequence = apartment.load(tmp_path / "flat", progress=lambda steps, **_: steps, **options)
    rendered = apartment.sequence(**options)
    assert np.array_equal(sequence.stamps_ns, rendered.stamps_ns) and sequence.camera == CAMERA
    assert np.allclose(sequence.groundtruth, rendered.groundtruth, atol=1e-6)
    assert np.allclose(sequence.T_odom_cam, rendered.T_odom_cam, atol=1e-6)
    assert np.abs(sequence.keyframes[2].depth - rendered.keyframes[2].depth).max() < 2e-4
    assert np.abs(sequence.queries[1].image.astype(int) - rendered.queries[1].image).mean() < 3

    assert (
        apartment.surfaces_of(tmp_path / "flat") is apartment.surfaces(0)
        and apartment.surfaces_of(tmp_path) is None
    )
    image = next((tmp_path / "flat/rgb").iterdir())
    written = image.stat().st_mtime_ns
    apartment.write(tmp_path / "flat", **options)
    assert image.stat().st_mtime_ns == written
    apartment.write(
        tmp_path / "flat", progress=lambda steps, **_: steps, **(options | {"keyframes": 3})
    )
    assert len(list((tmp_path / "flat/rgb").iterdir())) == 3


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="contains other files"):
        apartment.write(tmp_path, keyframes=3, queries=0)
    assert (tmp_path / "thesis.txt").read_text() == "mine"
