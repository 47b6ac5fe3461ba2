import cv2
import numpy as np
import pytest
from folders import SHARED

from vggt3_ros.datasets.dataset import Options, open_dataset
from vggt3_ros.datasets.sequence import KeyframeList, Query, Sequence
from vggt3_ros.datasets.tum import load_tum, read_trajectory_tum, write_trajectory_tum, write_tum
from vggt3_ros.frontend.pairing import PairingConfig
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera

KITCHEN = SHARED / "kitchen"
CAMERA = Camera(32, 24, 30.0, 31.0, 15.5, 11.5, "plumb_bob", (0.1, -0.05, 0.001, 0.002))
# float seconds could not hold these
STAMPS = 1_305_031_102_175_304_001 + np.arange(4) * 250_000_000


def made(depth=True):
    rng = np.random.default_rng(0)
    # larger steps would be jumps
    truth, odometry = (se3.exp(rng.normal(0, deviation, (4, 6))) for deviation in (0.5, 0.1))
    # flat blocks survive JPEG
    images = (
        rng.integers(60, 190, (6, 3, 4, 3)).astype(np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    )
    depths = rng.uniform(0.3, 6, (4, 24, 32)).astype(np.float32)
    keyframes = KeyframeList(
        CAMERA, STAMPS, odometry, lambda i: images[i], (lambda i: depths[i]) if depth else None
    )
    later = [int(STAMPS[-1]) + 10**9 * k for k in (1, 2)]
    queries = [Query(later[0], lambda: images[4], truth[0]), Query(later[1], lambda: images[5])]
    return Sequence("made", CAMERA, STAMPS, keyframes, truth, queries)


@pytest.fixture
def folder(tmp_path):
    write_tum(tmp_path / "made", made())
    return tmp_path / "made"


def replace_line(path, number, text):
    lines = path.read_text().splitlines()
    lines[number - 1] = text
    path.write_text("\n".join(lines) + "\n")


def test_what_is_written_is_read_back(folder):
    sequence, expected = load_tum(folder), made()
    assert sequence.name == "made" and sequence.camera == CAMERA
    assert np.array_equal(sequence.stamps_ns, STAMPS)
    assert np.allclose(sequence.T_odom_cam, expected.T_odom_cam, atol=1e-6)
    assert np.allclose(sequence.groundtruth, expected.groundtruth, atol=1e-6)
    for got, wanted in zip(sequence.keyframes, expected.keyframes):
        assert np.abs(got.depth - wanted.depth).max() <= 0.5 / 5000 + 1e-6
        # JPEG, but neither mirrored nor with channels swapped
        assert np.abs(got.image.astype(int) - wanted.image).mean() < 6
    assert [q.stamp_ns for q in sequence.queries] == [q.stamp_ns for q in expected.queries]
    assert np.allclose(sequence.queries[0].T_world_cam, expected.queries[0].T_world_cam, atol=1e-6)
    assert sequence.queries[1].T_world_cam is None
    assert np.abs(sequence.queries[1].image.astype(int) - expected.queries[1].image).mean() < 6


def test_a_camera_without_depth(tmp_path):
    write_tum(tmp_path / "made", made(depth=False))
    assert not (tmp_path / "made/depth.txt").exists()
    assert load_tum(tmp_path / "made").keyframes[0].depth is None


def test_trajectories_keep_nanoseconds(tmp_path):
    write_trajectory_tum(tmp_path / "t.txt", STAMPS, made().groundtruth)
    stamps, poses = read_trajectory_tum(tmp_path / "t.txt")
    assert np.array_equal(stamps, STAMPS) and np.allclose(poses, made().groundtruth, atol=1e-6)


def test_keyframes_are_the_images_nearest_to_odometry(folder):
    """Odometry 5 ms late, its second pose missing, and one pose 30 ms from any image."""
    poses = made().T_odom_cam
    stamps = STAMPS + np.array([5, 5, 5, 30]) * 10**6
    write_trajectory_tum(folder / "late.txt", stamps[[0, 2, 3]], poses[[0, 2, 3]])
    sequence = load_tum(folder, odometry="late.txt")  # found inside the folder
    assert np.array_equal(sequence.stamps_ns, STAMPS[[0, 2]])
    assert np.allclose(sequence.T_odom_cam, poses[[0, 2]], atol=1e-6)
    assert np.allclose(sequence.groundtruth, made().groundtruth[[0, 2]], atol=1e-6)
    assert [frame.id for frame in sequence.keyframes] == [0, 1]
    assert np.abs(sequence.keyframes[1].depth - made().keyframes[2].depth).max() < 2e-4


def test_an_image_is_used_once_where_odometry_is_denser(folder):
    stamps = np.sort(np.concatenate([STAMPS, STAMPS + 7 * 10**6]))
    write_trajectory_tum(folder / "odometry.txt", stamps, np.tile(np.eye(4), (8, 1, 1)))
    assert np.array_equal(load_tum(folder).stamps_ns, STAMPS)


def test_gaps_in_truth_and_depth(folder):
    for name, line in (("groundtruth.txt", 3), ("depth.txt", 2)):
        lines = (folder / name).read_text().splitlines()
        del lines[line - 1]
        (folder / name).write_text("\n".join(lines))
    sequence = load_tum(folder)
    assert (
        np.isnan(sequence.groundtruth[1]).all()
        and np.isfinite(sequence.groundtruth[[0, 2, 3]]).all()
    )
    assert sequence.keyframes[0].depth is None and sequence.keyframes[1].depth is not None


def test_another_list_of_queries(folder):
    (folder / "mine.txt").write_text(
        "".join((folder / "queries.txt").read_text().splitlines(True)[:2])
    )
    (folder / "queries_groundtruth.txt").rename(folder / "mine_groundtruth.txt")
    sequence = load_tum(folder, queries=folder / "mine.txt")
    assert len(sequence.queries) == 1 and sequence.queries[0].T_world_cam is not None
    (folder / "queries.txt").unlink()
    assert load_tum(folder).queries == []


@pytest.mark.parametrize(
    "name, line, text, what",
    [
        ("camera.yaml", 3, "f: 30", "camera.yaml: fx is missing"),
        ("camera.yaml", 3, "fx: -30", "camera.yaml: camera fx must be a focal length"),
        ("camera.yaml", 3, "fx: [", "camera.yaml: "),
        ("rgb.txt", 3, "1305031102.5 rgb/none.jpg", r"rgb.txt:3: .*rgb/none.jpg is missing"),
        (
            "rgb.txt",
            3,
            "1305031102.5",
            r"rgb.txt:3: 1 fields, expected the 2 fields 'timestamp filename'",
        ),
        ("odometry.txt", 4, "soon 0 0 0 0 0 0 1", r"odometry.txt:4: 'soon' is not a timestamp"),
        ("odometry.txt", 4, "nan 0 0 0 0 0 0 1", r"odometry.txt:4: 'nan' is not a timestamp"),
        (
            "odometry.txt",
            4,
            "12 0 0 0 0 0 0 1",
            r"odometry.txt:4: timestamp 12 is out of range or does not increase",
        ),
        (
            "odometry.txt",
            4,
            "1305031102.9 0 0 0 0 0 1",
            r"odometry.txt:4: 7 fields, expected the 8 fields",
        ),
        ("odometry.txt", 4, "1305031102.9 0 0 zero 0 0 0 1", r"odometry.txt:4: could not convert"),
        ("odometry.txt", 4, "1305031102.9 0 0 nan 0 0 0 1", r"odometry.txt:4: it contains NaN"),
        (
            "odometry.txt",
            4,
            "1305031102.9 0 0 0 0 0 0 0.5",
            r"odometry.txt:4: quaternion must have unit length",
        ),
    ],
)
def test_errors_name_file_line_and_cause(folder, name, line, text, what):
    replace_line(folder / name, line, text)
    with pytest.raises(ValueError, match=what):
        load_tum(folder)


def test_missing_files_are_named(folder, tmp_path):
    with pytest.raises(ValueError, match="is not a folder"):
        load_tum(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="other.txt is missing"):
        load_tum(folder, odometry="other.txt")
    (folder / "odometry.txt").unlink()
    with pytest.raises(ValueError, match="odometry.txt is missing: name the front end"):
        load_tum(folder)
    (folder / "camera.yaml").unlink()
    with pytest.raises(ValueError, match="camera.yaml cannot be read"):
        load_tum(folder)


def test_another_clock_is_recognised(folder):
    write_trajectory_tum(folder / "odometry.txt", STAMPS - 10**15, made().T_odom_cam)
    with pytest.raises(ValueError, match="same clock"):
        load_tum(folder)


def test_images_that_do_not_fit_are_refused_when_loaded(folder):
    sequence = load_tum(folder)
    images = sorted((folder / "rgb").iterdir())
    cv2.imwrite(str(images[0]), np.zeros((48, 64, 3), np.uint8))
    images[1].write_text("no image")
    cv2.imwrite(str(sorted((folder / "depth").iterdir())[2]), np.zeros((24, 32), np.uint8))
    for index, what in enumerate(
        ("64x48, the calibration says 32x24", "not an image", "one channel of uint16")
    ):
        with pytest.raises(ValueError, match=what):
            sequence.keyframes[index]


@pytest.mark.skipif(
    not KITCHEN.exists(), reason="the recorded sequence lies outside the repository"
)
def test_a_recorded_sequence():
    sequence = load_tum(KITCHEN, odometry=KITCHEN / "odometry_hard.txt")
    assert len(sequence) == 125 and len(sequence.queries) == 63
    assert all(query.T_world_cam is not None for query in sequence.queries)
    frame = sequence.keyframes[60]
    assert frame.image.shape == (480, 640, 3) and 0.5 < np.median(frame.depth[frame.depth > 0]) < 4
    assert not np.allclose(sequence.T_odom_cam, sequence.groundtruth, atol=0.1)


def shift_list(path, seconds):
    lines = path.read_text().splitlines()
    path.write_text(
        "\n".join(
            line
            if line.startswith("#")
            else " ".join([f"{float(line.split()[0]) + seconds:.6f}", *line.split()[1:]])
            for line in lines
        )
        + "\n"
    )


@pytest.mark.parametrize("late", [0.033, 100.0])
def test_depth_of_another_clock_is_refused_with_its_offset_and_mended_by_it(folder, late):
    """Not read without a word as a run without depth."""
    shift_list(folder / "depth.txt", late)
    with pytest.raises(
        ValueError,
        match=f"depth.txt: no depth stamp is within 20 ms of an image: .*--time-offset depth=-{late:.3f}",
    ):
        open_dataset(folder)
    mended = [Options(time_offsets={"depth": -late})] + (
        [Options(pairing=PairingConfig(sync_tolerance=0.05))] if late < 1 else []
    )
    for options in mended:
        assert all(
            keyframe.depth is not None for keyframe in open_dataset(folder, options).keyframes
        )


def test_truth_and_odometry_of_another_clock_are_refused_with_their_offset(folder):
    for name in ("odometry", "groundtruth"):
        shift_list(folder / f"{name}.txt", 5.0)
        with pytest.raises(ValueError, match=f"{name}.txt: no pose .*--time-offset {name}=-5.000"):
            open_dataset(folder)
        assert len(open_dataset(folder, Options(time_offsets={name: -5.0}))) == 4
        shift_list(folder / f"{name}.txt", -5.0)


def test_options_of_the_command_line(folder, capsys):
    from vggt3_ros.cli.main import main

    assert (
        main(["evaluate", str(folder), "--time-offset", "lidar=1"]) == 2
        and "depth, right, odometry, groundtruth" in capsys.readouterr().err
    )
    assert (
        main(["evaluate", str(folder), "--input", "sync_tolerance=soon"]) == 2
        and "'soon' is not a number" in capsys.readouterr().err
    )


def test_images_of_12_bits_are_scaled_alike_throughout_a_folder(folder):
    """A dark one too, and those to be localized."""
    bits = (np.random.default_rng(0).random((24, 32)) * 4000).astype(np.uint16)
    dark, files = (
        bits // 8,
        [
            line.split()[1]
            for name in ("rgb", "queries")
            for line in (folder / f"{name}.txt").read_text().splitlines()[1:]
        ],
    )
    for k, file in enumerate(files):
        (folder / file).unlink()
        assert cv2.imwrite(str((folder / file).with_suffix(".png")), dark if k in (0, 4) else bits)
    for name in ("rgb", "queries"):
        (folder / f"{name}.txt").write_text(
            (folder / f"{name}.txt").read_text().replace(".jpg", ".png")
        )
    sequence = open_dataset(folder)
    np.testing.assert_array_equal(sequence.keyframes[0].image[..., 0], dark >> 4)
    np.testing.assert_array_equal(sequence.keyframes[2].image[..., 1], bits >> 4)
    np.testing.assert_array_equal(sequence.queries[0].image[..., 2], dark >> 4)
