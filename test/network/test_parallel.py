"""Images shared by several processes give what one process gives."""

import os
import subprocess
import sys

import pytest
import torch
from folders import ROOT, SUPPORT
from tiny_network import one_thread, random_images, relative, tiny_network  # noqa: F401

from vggt3_ros.network.parallel import shard


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    environment = dict(os.environ, OMP_NUM_THREADS="1", PYTHONPATH=f"{SUPPORT}{os.pathsep}{ROOT}")
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
    ]
    finished = subprocess.run(
        [*command, str(SUPPORT / "torchrun_map.py"), str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("attention", ["ttt", "softmax"])
def test_two_processes_equal_one(ranks, attention):
    predictions, scene = tiny_network(attention).map(random_images(5), depth_frames=[1, 3])
    first, second = (rank[attention] for rank in ranks)
    assert first["pose"].shape[0] == 2 and second["pose"].shape[0] == 3
    assert relative(torch.cat((first["pose"], second["pose"])), predictions.pose_encoding) < 1e-5
    assert relative(torch.cat((first["depth"], second["depth"])), predictions.depth.values) < 1e-5
    if scene is not None:
        for rank in (first, second):
            assert relative(rank["fast weights"], scene.fast_weights) < 1e-4
            assert relative(rank["camera tokens"], scene.camera_tokens) < 1e-5


@pytest.mark.parametrize("count, size", [(5, 2), (7, 7), (1000, 3)])
def test_shards_cover_all_images_once_and_evenly(count, size):
    shards = [shard(count, rank, size) for rank in range(size)]
    assert [index for part in shards for index in range(count)[part]] == list(range(count))
    lengths = [part.stop - part.start for part in shards]
    assert min(lengths) >= 1 and max(lengths) - min(lengths) <= 1


def test_fewer_images_than_processes_is_an_error():
    with pytest.raises(ValueError, match="2 images cannot be split over 3"):
        shard(2, 0, 3)
