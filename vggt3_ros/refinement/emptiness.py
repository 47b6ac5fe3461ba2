"""Why a map or a memory came out empty, and which parameter to change."""

import numpy as np

SEEN = 0.1  # share of the depth that must lie in reach, else what is empty is empty for the lack of it


def why_empty(frames, max_depth, parameter, otherwise, estimate="auto"):
    """Frames of keyframes from all over the map (an iterable), metres that are used and the parameter that says so -> one sentence.

    otherwise: what to look at where enough of the depth lies within; estimate: the value of depth.estimate.
    """
    depths = [frame.cell_depth[frame.cell_depth > 0] for frame in frames]
    known = [depth for depth in depths if len(depth)]
    if not known:
        advice = "set depth.estimate to auto or always" if estimate == "never" else (
            "without a depth camera depth comes from motion: move the camera sideways by a tenth of the distance to what it sees")
        return f"none of {len(depths)} keyframes looked at has depth: {advice}"
    low, middle, high = np.quantile(np.concatenate(known), (0.1, 0.5, 0.9))
    if np.mean(np.concatenate(known) <= max_depth) < SEEN:
        return (f"the keyframes see {low:.1f} to {high:.1f} m far (median {middle:.1f} m) and {parameter} is {max_depth:g} m: raise it")
    return f"depth of {len(known)} of {len(depths)} keyframes looked at lies within {parameter} ({max_depth:g} m): {otherwise}"
