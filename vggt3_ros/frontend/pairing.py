"""How images, depth and poses are brought together by their stamps: the same for topics, bags and
folders.
"""

import math
from dataclasses import dataclass

from vggt3_ros.config import Checked, value


@dataclass(frozen=True)
class PairingConfig(Checked):
    """What belongs to an image, and what of a front end's poses is believed."""

    sync_tolerance: float = value(
        0.02,
        "Depth, or the right image, belongs to an image when stamped closer than this",
        "s",
        0.0,
        1.0,
    )
    pose_gap: float = value(
        0.25,
        "Between poses farther apart none is interpolated; one stamped as the image always serves",
        "s",
        0.0,
        10.0,
    )
    jump_translation: float = value(
        0.1,
        "A step of the poses that deviates by more from steady motion is a jump and bridged; 0: never",
        "m",
        0.0,
        1000.0,
    )
    jump_rotation: float = value(
        0.1, "A step of the poses that turns by more is a jump, too; 0: never", "rad", 0.0, math.pi
    )

    @property
    def tolerance_ns(self):
        return round(self.sync_tolerance * 1e9)

    @property
    def gap_ns(self):
        return round(self.pose_gap * 1e9)
