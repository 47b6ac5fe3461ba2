"""What is dear to make is made once, when first asked for. Helpers lie in support/, which is on
sys.path (setup.cfg).
"""

import fcntl
import os
import shutil
from dataclasses import dataclass

import numpy as np
import psutil
import pytest
from hypothesis import settings

from vggt3_ros.system import memory_limits

# how long an example takes says nothing on a busy one
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


_kept_mb = [0]


@pytest.fixture(autouse=True)
def memory_given_back():
    """jemalloc, as the package sets it, keeps what is freed. The worker gives it back after each
    job; a test process that does not grows by gigabytes with each refinement without depth, until
    two of them thrash a machine of 24 GB.
    """
    yield
    process = psutil.Process()
    if process.memory_info().rss / 2**20 > _kept_mb[0] + 500:
        memory_limits.give_back()
        _kept_mb[0] = process.memory_info().rss / 2**20


@dataclass(frozen=True, eq=False)
class Rendered:
    """The first keyframes of the rendered apartment with their truth, and unseen views with
    theirs.
    """

    camera: object
    keyframes: list
    T_world_cam: np.ndarray
    T_odom_cam: np.ndarray
    stamps_ns: np.ndarray
    queries: list
    T_world_query: np.ndarray


@pytest.fixture(scope="session")
def rendered():
    from vggt3_ros.datasets.synthetic import apartment

    sequence = apartment.sequence(keyframes=28, queries=14, ate=0.15)
    return Rendered(
        sequence.camera,
        list(sequence.keyframes),
        sequence.groundtruth,
        sequence.T_odom_cam,
        sequence.stamps_ns,
        [query.image for query in sequence.queries],
        np.array([query.T_world_cam for query in sequence.queries]),
    )


@pytest.fixture(scope="session")
def encoder():
    from vggt3_ros.config import FeatureConfig
    from vggt3_ros.features.xfeat import XFeatEncoder

    return XFeatEncoder(FeatureConfig(), "cpu")


@pytest.fixture(scope="session")
def matcher():
    from vggt3_ros.features.matching import Matcher

    return Matcher("cpu")


@pytest.fixture(scope="session")
def frames(rendered, encoder):
    """Frames of the rendered keyframes."""
    from vggt3_ros.features.frame import encode_frame

    return [encode_frame(keyframe, encoder) for keyframe in rendered.keyframes]


@pytest.fixture(scope="session")
def refined_folder(rendered, tmp_path_factory):
    """A store of the rendered keyframes, refined once for all processes of this run; read it, or
    take `refined_copy`.
    """
    # then each process has its folder below one they share
    parallel = "PYTEST_XDIST_WORKER" in os.environ
    base = tmp_path_factory.getbasetemp().parent if parallel else tmp_path_factory.getbasetemp()
    folder, done = base / "refined" / "store", base / "refined" / "done"
    folder.mkdir(parents=True, exist_ok=True)
    with open(base / "refined" / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            _refine(rendered, folder)
            done.touch()
    return (
        shutil.copytree(folder, tmp_path_factory.mktemp("refined") / "store")
        if parallel
        else folder
    )


def _refine(rendered, folder):
    from vggt3_ros.backend import Backend
    from vggt3_ros.config import BackendConfig
    from vggt3_ros.store.keyframes import KeyframeStore

    with KeyframeStore(folder) as store:
        backend = Backend(
            store, BackendConfig.from_flat({"device": "cpu", "map.voxel_size": 0.03})
        )
        for keyframe in rendered.keyframes:
            backend.add(keyframe)
        backend.refine()


@pytest.fixture
def refined_copy(refined_folder, tmp_path):
    """A copy of that store to change."""
    return shutil.copytree(refined_folder, tmp_path / "store")
