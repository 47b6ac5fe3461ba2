import numpy as np
import pytest

from vggt3_ros.datasets.sequence import KeyframeList, Query, Sequence
from vggt3_ros.geometry.camera import Camera

CAMERA = Camera(8, 6, 7.0, 7.0, 3.5, 2.5)
STAMPS = np.array([10, 20, 30])
POSES = np.tile(np.eye(4), (3, 1, 1))
POSES[:, 0, 3] = 0, 1, 2


def keyframes(loaded=None, **options):
    def image(i):
        if loaded is not None:
            loaded.append(i)
        return np.full((6, 8, 3), i, np.uint8)

    return KeyframeList(CAMERA, STAMPS, POSES, image, **options)


def test_keyframes_are_loaded_only_when_asked_for():
    loaded = []
    frames = keyframes(loaded)
    assert len(frames) == 3 and loaded == []
    frame = frames[-1]
    assert loaded == [2]
    assert (
        frame.id,
        frame.stamp_ns,
        frame.image[0, 0, 0],
        frame.T_odom_cam[0, 3],
        frame.depth,
    ) == (2, 30, 2, 2, None)
    assert [f.id for f in frames[1:]] == [1, 2]
    assert [f.id for f in frames] == [0, 1, 2]  # iteration ends by IndexError
    with pytest.raises(IndexError):
        frames[3]


def test_depth_and_covariance_reach_the_keyframe():
    covariances = np.tile(np.eye(6), (3, 1, 1)) * np.array([1, 2, 3])[:, None, None]
    frames = keyframes(
        load_depth=lambda i: None if i == 0 else np.full((6, 8), float(i)),
        odometry_covariances=covariances,
    )
    assert frames[0].depth is None
    assert frames[2].depth.dtype == np.float32 and frames[2].depth[0, 0] == 2
    assert frames[1].odometry_covariance[5, 5] == 2


def test_sequence_gives_odometry_without_loading_and_queries_on_demand():
    loaded = []
    query = Query(40, lambda: loaded.append("query") or np.zeros((6, 8, 3), np.uint8))
    sequence = Sequence("s", CAMERA, STAMPS, keyframes(loaded), POSES, [query])
    assert np.array_equal(sequence.T_odom_cam, POSES) and loaded == [] and len(sequence) == 3
    assert (
        sequence.queries[0].image.shape == (6, 8, 3)
        and loaded == ["query"]
        and query.T_world_cam is None
    )


@pytest.mark.parametrize(
    "make, what",
    [
        (lambda: KeyframeList(CAMERA, [3, 2, 1], POSES, None), "increasing"),
        (lambda: KeyframeList(CAMERA, STAMPS, POSES[:2], None), "T_odom_cam"),
        (lambda: keyframes(odometry_covariances=np.zeros((2, 6, 6))), "odometry_covariances"),
        (lambda: Sequence("s", CAMERA, STAMPS[:2], keyframes()), "3 keyframes but 2 stamps"),
        (lambda: Sequence("s", CAMERA, STAMPS, keyframes(), POSES[:1]), "groundtruth"),
    ],
)
def test_disagreeing_lengths_are_named(make, what):
    with pytest.raises(ValueError, match=what):
        make()
