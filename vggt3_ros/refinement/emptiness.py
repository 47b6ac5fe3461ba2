"""Why a map or a memory came out empty, and which parameter to change."""

import logging

import numpy as np

_log = logging.getLogger(__name__)
LOOKED_AT = 32  # keyframes: enough to tell, at the same cost in any map
# share of the depth that must lie in reach, else what is empty is empty for the lack of it
SEEN = 0.1


def why_all_empty(frames, ids, cloud, memory, config):
    """frames(id) -> Frame, keyframe ids, PointMap, SceneMemory or None, BackendConfig -> a
    sentence for each that is empty; also logged.
    """
    said, ids = [], ids[:: -(-len(ids) // LOOKED_AT)]
    if not len(cloud):
        otherwise = (
            "surfaces must be seen map.minimum_weight times, and estimated depth must be sure"
        )
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
                "too little of it to remember",
                config.depth.estimate,
            )
        )
    for text in said:
        _log.warning("%s", text)
    return said


def why_empty(frames, max_depth, parameter, otherwise, estimate="auto"):
    """Frames of keyframes from all over the map (an iterable), metres that are used and the
    parameter that says so -> one sentence.

    otherwise: what to look at where enough of the depth lies within; estimate: the value of
    depth.estimate.
    """
    depths = [frame.cell_depth[frame.cell_depth > 0] for frame in frames]
    known = [depth for depth in depths if len(depth)]
    if not known:
        advice = (
            "set depth.estimate to auto or always"
            if estimate == "never"
            else (
                "without a depth camera depth comes from motion: move the camera sideways by a tenth of the distance to what it sees"
            )
        )
        return f"none of {len(depths)} keyframes looked at has depth: {advice}"
    low, middle, high = np.quantile(np.concatenate(known), (0.1, 0.5, 0.9))
    if np.mean(np.concatenate(known) <= max_depth) < SEEN:
        return f"the keyframes see {low:.1f} to {high:.1f} m far (median {middle:.1f} m) and {parameter} is {max_depth:g} m: raise it"
    return f"depth of {len(known)} of {len(depths)} keyframes looked at lies within {parameter} ({max_depth:g} m): {otherwise}"
