"""Further facts for /diagnostics: keyframes waiting, loop residuals, last correction. Needs no
ROS.
"""

import numpy as np


def facts(core):
    """Return {name: text} for the node's Core."""
    network = core.parameters.backend.network
    out = {
        "keyframes_waiting": str(core.refinery.waiting),
        "last_correction": core.last_correction or "none yet",
        "model": network.adapter or network.checkpoint or "embedded",
        "device": core.parameters.backend.device,
    }
    snapshot = core.snapshot
    if snapshot is None:
        return out
    residuals = [(loop.residual_m, loop.residual_rad) for loop in snapshot.loops if loop.accepted]
    if residuals:
        out["loop_residual"] = "{:.4f} m, {:.4f} rad".format(*np.median(residuals, axis=0))
    if "scale_sigma" in snapshot.report:
        out["scale"] = f"the odometry's, known to {snapshot.report['scale_sigma']:.1%}"
    seen = snapshot.report.get("network")
    if seen:
        out["network"] = seen["summary"]
    return out
