"""Measure how large a scene is from the depth of its keyframes, and scale lengths to it.

The default lengths are those of an indoor robot. In a street nothing lies within them: the map is
empty and no keyframe has a neighbour. A scene `scale` times as large as a room needs lengths
`scale` times as large; then the number of voxels along a ray, and of keyframes within the radius of
proximity, stay what they are in a room.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vggt3_ros.config import BackendConfig, MapConfig
from vggt3_ros.features.frame import Frame
from vggt3_ros.refinement.plans import SMALLEST_PLAN, shrunk

# the lengths, in metres, that grow with the scene
LENGTHS = {
    "loops": ("proximity_radius", "drift_allowance"),
    "pose_graph": ("loop_residual_translation",),
    "map": ("voxel_size", "max_depth", "moved"),
    "memory": ("max_depth",),
    "localizer": ("point_sigma",),
}
VOXELS_PER_RAY = MapConfig().max_depth / MapConfig().voxel_size
LOOKED_AT = 32  # keyframes examined: enough to tell, and a bound on the cost in a large map
# Depth beyond this quantile need not be covered: the error of depth from stereo and motion grows
# with the square of the distance, and the farthest fifth of a street is mostly error.
QUANTILE = 0.8
# Scales are powers of this, so that the scale of a growing map seldom changes.
STEP = math.sqrt(2)
# steps by which the depth must call for a higher or lower scale before it changes
KEPT = 0.75
LARGEST = 20.0  # a voxel of 0.4 m, depth of 100 m
REPORT = "scene_scale"  # key in a snapshot's report


@dataclass(frozen=True)
class SceneScale:
    """scale: factor on the lengths of a room, at least 1. depth_m: the QUANTILE of the keyframes'
    depth, metres; NaN when none is known.
    """

    scale: float
    depth_m: float


def scene_scale(
    frames: Callable[[int], Frame], ids: Sequence[int], room_m: float, last: float | None = None
) -> SceneScale:
    """Measure the scale of a scene on keyframes from all over it.

    frames(id) returns the Frame of one of the keyframe `ids`. room_m: metres, the depth for which
    the indoor defaults are made (the default of `map.max_depth`). last: the previous scale, which
    is kept while it fits; None without one. Without any depth the scale is `last`, or 1.
    """
    seen = _depths(map(frames, ids[:: -(-len(ids) // LOOKED_AT)]))
    if not len(seen):
        return SceneScale(last or 1.0, float("nan"))
    depth = float(np.quantile(seen, QUANTILE))
    steps = math.log(max(depth / room_m, 1e-9), STEP)
    if last is not None and abs(steps - math.log(last, STEP) + 0.5) < 0.5 + KEPT:
        return SceneScale(last, depth)
    # Round up, but tolerate a tenth of a step, since the quantile is not exact.
    scale = STEP ** max(0, math.ceil(steps - 0.1))
    return SceneScale(min(scale, LARGEST), depth)


def _depths(frames: Iterable[Frame]) -> np.ndarray:
    known = []
    for frame in frames:
        # Before its planes are swept, a keyframe has depth at its keypoints only.
        depth = frame.cell_depth if (frame.cell_depth > 0).any() else frame.keypoint_depth
        known.append(depth[depth > 0])
    return np.concatenate(known) if known else np.zeros(0, np.float32)


def in_scale(config: BackendConfig, scale: float) -> BackendConfig:
    """Return the BackendConfig with those lengths multiplied by `scale` that have their defaults.
    Values that a user chose stay.
    """
    if scale == 1:
        return config
    left_alone = _defaults(config)
    limits = config.flat()
    parts: dict[str, Any] = {}
    for component, names in LENGTHS.items():
        part = getattr(config, component)
        changed = {
            name: min(scale * getattr(part, name), limits[f"{component}.{name}"][1]["high"])
            for name in names
            if getattr(part, name) == getattr(getattr(left_alone, component), name)
        }
        if component == "map" and "max_depth" in changed:
            # Voxels that a user made small stay small: farther than this, they would fill memory.
            farthest = VOXELS_PER_RAY * changed.get("voxel_size", part.voxel_size)
            changed["max_depth"] = max(part.max_depth, min(changed["max_depth"], farthest))
        parts[component] = replace(part, **changed)
    return replace(config, **parts)


def _defaults(config: BackendConfig) -> BackendConfig:
    """Return the defaults, shrunk by plans.shrunk as much as `config` was."""
    for level in range(1, SMALLEST_PLAN + 1):
        smaller = shrunk(BackendConfig(), level)
        if smaller.memory.max_slots == config.memory.max_slots:
            return smaller
    return BackendConfig()


def described(found: SceneScale, config: BackendConfig) -> str:
    """Describe the scale, its reason and the lengths in one line for the log."""
    return (
        f"{QUANTILE:.0%} of the depth lies within {found.depth_m:.1f} m: lengths of an indoor "
        f"robot times {found.scale:.2g} (map.voxel_size {config.map.voxel_size:.2g} m, "
        f"map.max_depth {config.map.max_depth:.3g} m, memory.max_depth "
        f"{config.memory.max_depth:.3g} m, loops.proximity_radius "
        f"{config.loops.proximity_radius:.3g} m); set scene_scale to choose"
    )
