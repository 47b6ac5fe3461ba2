"""The worker with the real back end: it localizes while it refines, and can be cancelled in every
phase.
"""

import shutil
import threading
from contextlib import contextmanager

import pytest
from refinements import PHASES, Refinement

from vggt3_ros.config import BackendConfig
from vggt3_ros.store.snapshot import MEMORY_FILE
from vggt3_ros.worker.client import WorkerClient, WorkerError

ENDLESS = {"device": "cpu", "memory.steps": 100_000, "map.voxel_size": 0.03}


@contextmanager
def working(folder, **config):
    ready = threading.Event()
    client = WorkerClient(
        folder,
        BackendConfig.from_flat(ENDLESS | config),
        on_change=lambda: client.ready and ready.set(),
    )
    client.start()
    try:
        assert ready.wait(120)
        yield client
    finally:
        client.close()


@pytest.fixture
def worker(refined_copy):
    """It has a map, but no memory yet: distilling one of all keyframes has no end."""
    (refined_copy / "snapshots" / "000001" / MEMORY_FILE).unlink()
    with working(refined_copy) as client:
        yield client


@pytest.fixture
def beginner(refined_copy):
    """It has everything still to do: features of so many keypoints are not in the store."""
    shutil.rmtree(refined_copy / "snapshots")
    with working(refined_copy, **{"features.keypoints": 1000}) as client:
        yield client


def test_a_refinement_is_cancelled_in_the_phase_it_is_in(beginner):
    for phase in PHASES:
        refinement = Refinement(beginner)
        refinement.wait_for(phase)
        beginner.cancel(refinement.future)
        with pytest.raises(WorkerError) as error:
            refinement.future.result(120)
        assert error.value.code == "cancelled"
        last = str(error.value).rpartition(" ")[2]
        # short ones may have passed while the word came
        assert PHASES.index(last) - PHASES.index(phase) <= 2


def test_images_are_localized_while_a_map_is_fused_and_a_memory_distilled(worker, rendered):
    refinement = Refinement(worker)
    answered = []
    for phase in ("fusion", "memory"):
        refinement.wait_for(phase)
        answered += [
            worker.localize(image, rendered.camera).result(120)["code"]
            for image in rendered.queries[:3]
        ]
    assert answered.count("ok") >= 4 and not refinement.future.done()
    worker.cancel(refinement.future)
    with pytest.raises(WorkerError, match="cancelled during memory"):
        refinement.future.result(120)
