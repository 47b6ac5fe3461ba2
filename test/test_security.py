"""Nothing in the package runs what it reads, and what it writes is its user's own."""

import ast
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from random_keyframes import make_keyframe

import vggt3_ros
from vggt3_ros.ros.services.saving import BadName, map_to_load, save_map
from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.store.snapshot import PointMap, Snapshot

PACKAGE = Path(vggt3_ros.__file__).parent
TREES = {path: ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}
FORBIDDEN_MODULES = {
    "pickle",
    "cPickle",
    "_pickle",
    "dill",
    "cloudpickle",
    "joblib",
    "shelve",
    "marshal",
    "jsonpickle",
    "pandas",
    "imp",
}
FORBIDDEN_CALLS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "os.system",
    "os.popen",
    "yaml.load",
    "yaml.unsafe_load",
    "yaml.full_load",
    "yaml.load_all",
    "tempfile.mktemp",
    "numpy.fromfile",
    "np.loads",
}
PROCESS_CALLS = {
    "subprocess.run",
    "subprocess.Popen",
    "subprocess.call",
    "subprocess.check_call",
    "subprocess.check_output",
}


def calls():
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                yield (
                    path.relative_to(PACKAGE),
                    node,
                    ast.unparse(node.func),
                    {key.arg: ast.unparse(key.value) for key in node.keywords},
                )


def test_nothing_unpickles_or_evaluates():
    imported = {
        (path.name, name.name.split(".")[0])
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for name in node.names
    }
    imported |= {
        (path.name, (node.module or "").split(".")[0])
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
    }
    assert len(TREES) > 100 and not {entry for entry in imported if entry[1] in FORBIDDEN_MODULES}
    assert not [
        (str(path), node.lineno, name)
        for path, node, name, _ in calls()
        if name in FORBIDDEN_CALLS
    ]


def test_what_can_unpickle_is_told_not_to():
    loads = [
        (str(path), node.lineno, name, given)
        for path, node, name, given in calls()
        if name in ("torch.load", "np.load", "numpy.load")
    ]
    assert any(name == "torch.load" for _, _, name, _ in loads)
    wanted = {
        "torch.load": ("weights_only", "True"),
        "np.load": ("allow_pickle", "False"),
        "numpy.load": ("allow_pickle", "False"),
    }
    assert not [load for load in loads if load[3].get(wanted[load[2]][0]) != wanted[load[2]][1]]


def test_no_process_is_started_through_a_shell():
    started = [
        (str(path), node.lineno, given)
        for path, node, name, given in calls()
        if name in PROCESS_CALLS
    ]
    assert started and not [
        entry for entry in started if entry[2].get("shell", "False") != "False"
    ]


@pytest.fixture
def store(tmp_path):
    with KeyframeStore(tmp_path / "store") as store:
        for id in range(3):
            store.put(make_keyframe(id))
        yield store


def snapshot_of(store):
    poses = store.poses()
    empty = PointMap(
        np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8), np.zeros(0, np.float32)
    )
    snapshot = Snapshot(
        1,
        poses.ids,
        poses.stamps_ns,
        poses.T_odom_cam,
        poses.T_odom_cam,
        np.tile(np.eye(6), (3, 1, 1)),
        (),
        empty,
    )
    snapshot.save(store.snapshots / "000001")
    return snapshot


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "a/b",
        "/etc/x",
        "a\\..\\b/",
        ".hidden",
        "a" * 101,
        "a\n",
        "a\0",
        "ä",
        "-rf",
        "~x",
        "a b",
    ],
)
def test_names_lead_nowhere_else(store, tmp_path, name):
    for use in (
        lambda: save_map(store, None, tmp_path / "maps", name),
        lambda: map_to_load(tmp_path / "maps", name),
    ):
        with pytest.raises(BadName):
            use()
    assert not (tmp_path / "maps").exists()


def test_links_lead_nowhere_else(store, tmp_path):
    root, outside = tmp_path / "maps", tmp_path / "outside"
    save_map(store, snapshot_of(store), root, "real")
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (root / "new").symlink_to(outside)
    (root / ".other.partial").symlink_to(outside)
    with pytest.raises(FileExistsError):
        save_map(store, None, root, "new")
    with pytest.raises((OSError, ValueError)):
        save_map(store, None, root, "other")
    assert sorted(path.name for path in outside.iterdir()) == ["secret"]
    (root / "real").rename(outside / "moved")
    (root / "linked").symlink_to(outside / "moved")
    with pytest.raises(FileNotFoundError, match="link out of"):
        map_to_load(root, "linked")
    (outside / "moved").rename(root / "real")
    assert map_to_load(root, "real") == root / "real"
    for make in (
        lambda path: path.symlink_to(outside / "secret"),
        os.mkfifo,
        lambda path: path.symlink_to(root / "real", True),
    ):
        make(root / "real" / "snapshots" / "000001" / "memory.safetensors")
        with pytest.raises(FileNotFoundError, match="is a link or a special file"):
            map_to_load(root, "real")
        (root / "real" / "snapshots" / "000001" / "memory.safetensors").unlink()
    (root / "real" / "keyframes.db-wal").symlink_to(outside / "secret")
    with pytest.raises(FileNotFoundError, match="is a link or a special file"):
        map_to_load(root, "real")


def test_folders_are_the_users_own(store, tmp_path):
    """Whatever the umask: images show where people live."""
    before = os.umask(0)
    try:
        with KeyframeStore(tmp_path / "open" / "store"):
            pass
        saved = save_map(store, snapshot_of(store), tmp_path / "maps", "office")
    finally:
        os.umask(before)
    for folder in (tmp_path / "open" / "store", tmp_path / "maps", saved):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder
