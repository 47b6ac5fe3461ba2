"""Several maps become one in a new folder: what was never refined is refined first, and the given
folders stay as they are.
"""

import hashlib

import numpy as np
import pytest
from fake_backend import Localization
from random_keyframes import make_keyframe

from vggt3_ros.geometry import se3
from vggt3_ros.refinement.merging import newest_snapshot
from vggt3_ros.refinement.placing import LoadError
from vggt3_ros.refinement.uniting import unite
from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.store.snapshot import Snapshot
from vggt3_ros.surface.fusion import empty_map

# where the frame of each run lies in the world
FRAMES = {"hall": np.eye(4), "cellar": se3.exp([3.0, 1.0, -2.5, 0, 0.2, 1.0])}


def image_of(id):
    return make_keyframe(id).image.tobytes()


class BackEnd:
    """Trusts the odometry; localizes by knowing which keyframe an image is of."""

    refined = ()

    def __init__(self, store):
        self.store = store
        try:
            self.snapshot = Snapshot.load(newest_snapshot(store))
        except ValueError:
            self.snapshot = None

    def refine(self, progress=None):
        poses = self.store.poses()
        generation = self.snapshot.generation + 1 if self.snapshot else 1
        self.snapshot = Snapshot(
            generation,
            poses.ids,
            poses.stamps_ns,
            poses.T_odom_cam,
            poses.T_odom_cam,
            np.tile(np.eye(6) * 1e-4, (len(poses), 1, 1)),
            (),
            empty_map(),
            sessions=poses.sessions,
        )
        self.snapshot.save(self.store.snapshots / f"{generation:06d}")
        BackEnd.refined += (len(poses),)
        progress("pose_graph", 1.0)
        return self.snapshot

    def localize(self, image, camera):
        number = next(i for i in range(40) if image_of(i) == image.tobytes())
        pose = make_keyframe(number).T_odom_cam
        return Localization("ok", "", pose, np.eye(6), 100, 0.5, 1, 0.0)


@pytest.fixture
def folder(tmp_path):
    """folder(name, ids, refine=True) -> a store of keyframes that were taken in the frame of that
    name, closed.
    """

    def make(name, ids, refine=True):
        T_run_world = se3.inverse(FRAMES[name])
        with KeyframeStore(tmp_path / name) as store:
            for id in ids:
                keyframe = make_keyframe(id)
                object.__setattr__(keyframe, "T_odom_cam", T_run_world @ keyframe.T_odom_cam)
                store.put(keyframe)
            if refine:
                BackEnd(store).refine(lambda *_: None)
        BackEnd.refined = ()
        return tmp_path / name

    return make


def content(folder):
    """What the keyframes of a store and its snapshots are, as text."""
    with KeyframeStore(folder, read_only=True) as store:
        poses = store.poses()
        images = [hashlib.sha256(store.get(id).image.tobytes()).hexdigest() for id in store.ids()]
        snapshots = sorted(path.name for path in store.snapshots.glob("*"))
    return poses.ids.tolist(), poses.T_odom_cam.tolist(), images, snapshots


@pytest.mark.parametrize("refined", [True, False])
def test_two_maps_become_one_in_the_frame_of_the_first(folder, tmp_path, refined):
    folders = [folder("hall", range(8)), folder("cellar", range(20, 30), refined)]
    before, told = [content(f) for f in folders], []
    snapshot, merged = unite(
        folders, tmp_path / "all", BackEnd, lambda stage, done: told.append(stage)
    )
    assert [content(f) for f in folders] == before
    ((name, loaded),) = merged
    assert name == folders[1] and loaded.added == 10
    np.testing.assert_allclose(loaded.T_map_loaded, FRAMES["cellar"], atol=1e-6)
    # the second map, where it was not refined, and in the end all
    assert BackEnd.refined == ((18,) if refined else (10, 18)) and len(told) == len(
        BackEnd.refined
    )
    assert len(snapshot) == 18
    with KeyframeStore(tmp_path / "all", read_only=True) as store:
        assert len(store) == 18 and newest_snapshot(store).name == f"{snapshot.generation:06d}"
        for id in store.ids():
            keyframe = store.get(id)
            number = next(i for i in range(40) if image_of(i) == keyframe.image.tobytes())
            np.testing.assert_allclose(
                keyframe.T_odom_cam, make_keyframe(number).T_odom_cam, atol=1e-6
            )
    assert sorted(path.name for path in (tmp_path / "all").iterdir() if path.is_dir()) == [
        "snapshots"
    ]


def test_a_folder_that_cannot_be_read_fails_before_anything_is_done(folder, tmp_path):
    broken = folder("cellar", range(20, 25))
    (broken / "keyframes.db").write_bytes(b"no database")
    with pytest.raises(LoadError) as error:
        unite([folder("hall", range(8), False), broken], tmp_path / "all", BackEnd, None)
    assert error.value.code == "unreadable"
    assert BackEnd.refined == () and not (tmp_path / "all").exists()


def test_the_same_map_twice_is_refused(folder, tmp_path):
    hall = folder("hall", range(8))
    with pytest.raises(LoadError) as error:
        unite([hall, hall], tmp_path / "all", BackEnd, lambda *_: None)
    assert error.value.code == "conflict"
