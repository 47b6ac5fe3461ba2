"""What the page says of a keyframe and of a localized image, as tables of HTML."""

from typing import TYPE_CHECKING

import numpy as np

from vggt3_ros.store.snapshot import Snapshot
from vggt3_ros.web import palette
from vggt3_ros.web.status_text import paragraph, table

if TYPE_CHECKING:  # torch comes with the first image
    from vggt3_ros.memory.localizer import Localization


def about_keyframe(snapshot: Snapshot, row: int) -> str:
    """Of a snapshot's row-th keyframe."""
    keyframe_id = int(snapshot.keyframe_ids[row])
    loops = [
        loop.accepted for loop in snapshot.loops if keyframe_id in (loop.source_id, loop.target_id)
    ]
    return table(
        [
            ("Keyframe", str(keyframe_id)),
            ("Stamp", f"{snapshot.stamps_ns[row] / 1e9:.3f} s"),
            ("Position", "{:.2f}, {:.2f}, {:.2f} m".format(*snapshot.T_map_cam[row, :3, 3])),
            ("Standard deviation", _deviation(snapshot.covariances[row])),
            ("Loops", f"{sum(loops)} accepted, {len(loops) - sum(loops)} rejected"),
        ]
    )


def about_image(name: str, answer: "Localization") -> str:
    """Of an uploaded file."""
    if answer.T_map_cam is None or answer.covariance is None:
        text = f"{name}: {answer.code.replace('_', ' ')}: {answer.message}"
        return paragraph(text, palette.FAULT)
    return table(
        [
            ("Image", name),
            ("Position", "{:.3f}, {:.3f}, {:.3f} m".format(*answer.T_map_cam[:3, 3])),
            ("Standard deviation", _deviation(answer.covariance)),
            ("Inliers", str(answer.inliers)),
            ("Reprojection error", f"{answer.reprojection_error_px:.2f} px"),
            ("Checked", "against keyframes" if answer.verified else "by the scene memory alone"),
            ("Map", f"refinement {answer.generation}"),
            ("Took", f"{answer.seconds:.1f} s"),
        ]
    )


def _deviation(covariance: np.ndarray) -> str:
    sigma = np.sqrt(np.diag(covariance).clip(0))
    metres, radians = np.linalg.norm(sigma[:3]), np.linalg.norm(sigma[3:])
    return f"{100 * metres:.1f} cm, {np.degrees(radians):.2f} deg"
