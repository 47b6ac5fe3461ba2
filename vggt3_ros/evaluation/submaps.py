"""How well images are localized as a home grows room by room, with one memory of everything and with submaps."""

import time
from dataclasses import replace

import numpy as np

from vggt3_ros.config import BackendConfig
from vggt3_ros.datasets import home
from vggt3_ros.evaluation.localization import score_localizations
from vggt3_ros.features.matching import Matcher
from vggt3_ros.features.retrieval import PlaceIndex
from vggt3_ros.features.xfeat import XFeatEncoder
from vggt3_ros.mapping.frame import FrameSource
from vggt3_ros.mapping.fusion import empty_map
from vggt3_ros.mapping.snapshot import Snapshot
from vggt3_ros.mapping.store import KeyframeStore
from vggt3_ros.memory_use import peak_mb
from vggt3_ros.memory.keeper import MemoryKeeper
from vggt3_ros.memory.localizer import Localizer, Scene

ONE, SUBMAPS = "one memory", "submaps"
UNBOUNDED = 10**6
EVERY_STEP = {"memory.refinement_steps": UNBOUNDED, "memory.steps_per_keyframe": 100_000}  # however few the keyframes, many the submaps


def measure(sequence, folder, rooms, kinds, steps, settings, progress):
    """Rows of numbers (dict), one for each number of rooms and kind of memory, in that order, as they are made.

    sequence: of datasets.home, with truth; folder: what was done there is not done again. Maps are made at true poses. steps: of the
    optimizer for each submap; the one memory, warm-started from room to room as the back end does, gets as many in all. settings: config
    values by flat name. progress(text, fraction).
    """
    with KeyframeStore(folder / "store") as store:
        encoder = XFeatEncoder(BackendConfig.from_flat(settings).features, "cpu")
        frames = FrameSource(store, encoder, BackendConfig.from_flat(settings).resources.frame_cache_mb)
        inside = home.room_of(sequence.groundtruth)
        for i, truth in enumerate(sequence.groundtruth):
            if i not in store:
                store.put(replace(sequence.keyframes[i], T_odom_cam=truth))
            if inside[i] < max(rooms):
                frames(i)
            progress("features", (i + 1) / len(sequence))
        localizer, last, trained = Localizer(BackendConfig.from_flat(settings).localizer, encoder, Matcher("cpu")), {}, 0
        for count in rooms:
            ids = np.flatnonzero(inside < count)
            places = PlaceIndex.build([frames(int(i)).features for i in ids])
            for kind in kinds:
                config = _config(kind, steps, count - trained, settings)
                keeper = MemoryKeeper(folder / kind.replace(" ", "_"), frames, config, "cpu")
                snapshot = _snapshot(ids, sequence)
                memory, seconds = _memory(keeper, folder, kind, count, steps, last.get(kind), snapshot, progress)
                last[kind] = memory
                row = {"rooms": count, "keyframes": len(ids), "kind": kind, "memories": len(memory.ready), "steps": memory.steps,
                       "distillation_s": seconds, "memory_mb": sum(s.path.stat().st_size for s in memory.ready) / 1e6}
                scene = Scene(snapshot, memory, places, frames)
                row.update(_scores(sequence, count, localizer, scene, progress), peak_memory_mb=peak_mb())
                yield row
            trained = count


def _config(kind, steps, more_rooms, settings):
    own = {"memory.steps": steps, **EVERY_STEP}
    if kind == ONE:
        own = {"memory.steps": steps * more_rooms, "memory.warm_steps": steps * more_rooms, **EVERY_STEP,
               "memory.submap_keyframes": UNBOUNDED, "memory.submap_cells": UNBOUNDED}
    return BackendConfig.from_flat(settings | own)


def _snapshot(ids, sequence):
    truth = sequence.groundtruth[ids]
    return Snapshot(1, ids.astype(np.int64), sequence.stamps_ns[ids], truth, truth, np.tile(np.eye(6), (len(ids), 1, 1)), (), empty_map())


def _memory(keeper, folder, kind, count, steps, last, snapshot, progress):
    """(Submaps of so many rooms, seconds their distillation took beyond the last ones'): loaded where they were made already."""
    saved = folder / f"{kind.replace(' ', '_')}-{count}-{steps}"
    if not saved.exists():
        started = time.perf_counter()
        memory = keeper.kept(last, snapshot.keyframe_ids.tolist(), snapshot.T_map_cam,
                             lambda part: progress(f"{kind}, {count} rooms", part))
        seconds = time.perf_counter() - started
        replace(snapshot, seconds={"memory": seconds}).save(saved, memory)
    return keeper.load(saved, snapshot), Snapshot.load(saved).seconds["memory"]


def _scores(sequence, count, localizer, scene, progress):
    asked = [query for query in sequence.queries if home.room_of(query.T_world_cam[None])[0] < count]
    out, answers = {}, {"localization_memory": [], "localization": []}
    for k, query in enumerate(asked):
        image = query.image
        for name, found in answers.items():
            found.append(localizer.localize(scene, image, sequence.camera, verify=name == "localization"))
        progress("localization", (k + 1) / len(asked))
    for name, found in answers.items():
        out[name] = score_localizations(found, [query.T_world_cam for query in asked], np.eye(4)).as_dict()
    return out
