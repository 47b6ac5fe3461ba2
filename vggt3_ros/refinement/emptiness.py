"""Explain why a map or a scene memory came out empty, and which parameter to change."""

import logging
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from vggt3_ros.config import BackendConfig
from vggt3_ros.features.frame import Frame
from vggt3_ros.memory.scene_memory import SceneMemory
from vggt3_ros.store.snapshot import PointMap

_log = logging.getLogger(__name__)
LOOKED_AT = 32  # keyframes examined: enough to tell, and a bound on the cost in a large map
# share of the depth within max_depth below which max_depth is the cause
SEEN = 0.1


def why_all_empty(
    frames: Callable[[int], Frame],
    ids: Sequence[int],
    cloud: PointMap,
    memory: SceneMemory | None,
    config: BackendConfig,
) -> list[str]:
    """Return, and log, a sentence for each of map and scene memory that is empty.

    frames(id) returns the Frame of one of the keyframe `ids`.
    """
    said: list[str] = []
    ids = ids[:: -(-len(ids) // LOOKED_AT)]
    if not len(cloud):
        otherwise = "a surface must be observed map.minimum_weight times, and estimated depth must be accurate"
        said.append(
            "the map is empty: "
            + why_empty(
                map(frames, ids),
                config.map.max_depth,
                "map.max_depth",
                otherwise,
                config.depth.estimate,
            )
        )
    if memory is None:
        said.append(
            "the scene memory is empty: "
            + why_empty(
                map(frames, ids),
                config.memory.max_depth,
                "memory.max_depth",
                "too little of it for the memory",
                config.depth.estimate,
            )
        )
    for text in said:
        _log.warning("%s", text)
    return said


def why_empty(
    frames: Iterable[Frame],
    max_depth: float,
    parameter: str,
    otherwise: str,
    estimate: str = "auto",
) -> str:
    """Return one sentence that says why there is no usable depth.

    frames: keyframes from all over the map. max_depth: metres beyond which depth is not used, and
    `parameter` the name of that parameter. otherwise: the advice when enough of the depth lies
    within it. estimate: the value of depth.estimate.
    """
    depths = [frame.cell_depth[frame.cell_depth > 0] for frame in frames]
    known = [depth for depth in depths if len(depth)]
    if not known:
        advice = (
            "set depth.estimate to auto or always"
            if estimate == "never"
            else (
                "without a depth camera, depth comes from motion: move the camera sideways by a tenth of the distance to what it sees"
            )
        )
        return f"none of the {len(depths)} keyframes examined has depth: {advice}"
    low, middle, high = np.quantile(np.concatenate(known), (0.1, 0.5, 0.9))
    if np.mean(np.concatenate(known) <= max_depth) < SEEN:
        return f"the depth of the keyframes is {low:.1f} to {high:.1f} m (median {middle:.1f} m), but {parameter} is {max_depth:g} m: raise it"
    return f"{len(known)} of the {len(depths)} keyframes examined have depth within {parameter} ({max_depth:g} m): {otherwise}"
