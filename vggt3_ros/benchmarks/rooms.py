"""Measure localization as a home grows room by room: by the scene memory alone, and verified."""

import time
from collections.abc import Iterator
from collections.abc import Sequence as Items
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vggt3_ros.benchmarks.progress import Progress
from vggt3_ros.config import BackendConfig
from vggt3_ros.datasets.sequence import Sequence
from vggt3_ros.datasets.synthetic import home_tours
from vggt3_ros.evaluation.localization import score_localizations
from vggt3_ros.features.frame import FrameSource
from vggt3_ros.features.matching import Matcher
from vggt3_ros.features.retrieval import PlaceIndex
from vggt3_ros.features.xfeat import XFeatEncoder
from vggt3_ros.memory.keeper import MemoryKeeper
from vggt3_ros.memory.localizer import Localization, Localizer
from vggt3_ros.memory.scenes import Scene
from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.store.snapshot import MEMORY_FILE, Snapshot
from vggt3_ros.surface.fusion import empty_map
from vggt3_ros.system.memory_use import peak_mb


def measure(
    sequence: Sequence,
    folder: Path,
    rooms: Items[int],
    settings: dict[str, Any],
    progress: Progress,
) -> Iterator[dict[str, Any]]:
    """Yield a row (dict) for each number of rooms.

    sequence: of home_tours, with truth. folder: stores keyframes and memories; existing ones are
    reused. Maps are built at true poses, each grown from the previous one. settings: config values
    by flat name.
    """
    config = BackendConfig.from_flat({"device": "cpu"} | settings)
    with KeyframeStore(folder / "store") as store:
        encoder = XFeatEncoder(config.features, "cpu")
        frames = FrameSource(store, encoder, config.resources.frame_cache_mb)
        assert sequence.groundtruth is not None
        inside = home_tours.room_of(sequence.groundtruth)
        for i, truth in enumerate(sequence.groundtruth):
            if inside[i] >= max(rooms):
                continue
            if i not in store:
                store.put(replace(sequence.keyframes[i], T_odom_cam=truth))
            frames(i)
            progress("features", (i + 1) / len(sequence))
        localizer, keeper, memory = (
            Localizer(config.localizer, encoder, Matcher("cpu")),
            MemoryKeeper(frames, config, "cpu"),
            None,
        )
        for count in rooms:
            ids = np.flatnonzero(inside < count)
            places = PlaceIndex.build([frames(int(i)).features for i in ids])
            snapshot, saved = _snapshot(ids, sequence), folder / f"rooms-{count}"
            if not saved.exists():
                started = time.perf_counter()
                memory = keeper.update(
                    memory,
                    ids.tolist(),
                    snapshot.T_map_cam,
                    partial(progress, f"memory of {count} rooms"),
                )
                replace(snapshot, seconds={"memory": time.perf_counter() - started}).save(
                    saved, memory
                )
            memory = keeper.load(saved, snapshot)
            if memory is None:
                raise ValueError(f"{saved} holds no scene memory: remove it")
            row = {
                "rooms": count,
                "keyframes": len(ids),
                "slots": len(memory),
                "memory_s": Snapshot.load(saved).seconds["memory"],
                "memory_mb": (saved / MEMORY_FILE).stat().st_size / 1e6,
            }
            yield (
                row
                | _scores(
                    sequence, count, localizer, Scene(snapshot, memory, places, frames), progress
                )
                | {"peak_memory_mb": peak_mb()}
            )


def _snapshot(ids: np.ndarray, sequence: Sequence) -> Snapshot:
    """Return a Snapshot of keyframes at their true poses."""
    assert sequence.groundtruth is not None
    truth = sequence.groundtruth[ids]
    return Snapshot(
        1,
        ids.astype(np.int64),
        sequence.stamps_ns[ids],
        truth,
        truth,
        np.tile(np.eye(6), (len(ids), 1, 1)),
        (),
        empty_map(),
    )


def _scores(
    sequence: Sequence, count: int, localizer: Localizer, scene: Scene, progress: Progress
) -> dict[str, Any]:
    """Localize the queries in the first `count` rooms and score them."""
    asked = [
        query
        for query in sequence.queries
        if home_tours.room_of(query.T_world_cam[None])[0] < count
    ]
    answers: dict[str, list[Localization]] = {"localization_memory": [], "localization": []}
    for k, query in enumerate(asked):
        image = query.image
        for name, found in answers.items():
            found.append(
                localizer.localize(scene, image, sequence.camera, verify=name == "localization")
            )
        progress("localization", (k + 1) / len(asked))
    return {
        name: score_localizations(
            found, [query.T_world_cam for query in asked], np.eye(4)
        ).as_dict()
        for name, found in answers.items()
    }
