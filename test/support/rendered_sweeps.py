"""Plane sweeps of a few rendered keyframes, and how far depth is from the truth."""

import numpy as np

from vggt3_ros.refinement.monocular.plane_sweep import SweepView, sweep

LOOKED_AT = (3, 4, 5, 6, 7)


def views_of(frames, rendered):
    return {
        i: SweepView(
            frames[i].camera, frames[i].gray, frames[i].features.dense, rendered.T_world_cam[i]
        )
        for i in range(len(frames))
    }


def sweeps_of(views):
    """{index: InverseDepth} of the keyframes LOOKED_AT, each against the others."""
    return {
        i: sweep(views[i], [views[j] for j in LOOKED_AT if j != i], 0.4, 8.0) for i in LOOKED_AT
    }


def relative_error(depth, truth):
    """Of depth at half resolution where it and the truth are known, and the share of that."""
    truth = truth[::2, ::2]
    known = (truth > 0) & (depth > 0)
    return np.abs(depth[known] / truth[known] - 1), known.mean()
