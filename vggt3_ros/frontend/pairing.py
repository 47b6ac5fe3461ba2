"""Parameters for pairing images, depth and poses by their stamps. The same for topics, bags and
folders.
"""

import math

from pydantic.dataclasses import dataclass

from vggt3_ros.system.checked import Checked, value


@dataclass(frozen=True)
class PairingConfig(Checked):
    """When depth and poses belong to an image, and when a step of the poses is a jump."""

    sync_tolerance: float = value(
        0.02,
        "Largest difference between the stamps of an image and its depth or right image",
        "s",
        0.0,
        1.0,
    )
    pose_gap: float = value(
        0.25,
        "Longest gap between poses that is interpolated; a pose with the stamp of the image is always used",
        "s",
        0.0,
        10.0,
    )
    jump_translation: float = value(
        0.1,
        "A pose that deviates by more from steady motion is a jump, which is bridged; 0: never",
        "m",
        0.0,
        1000.0,
    )
    jump_rotation: float = value(
        0.1,
        "A pose whose rotation deviates by more from steady motion is a jump, too; 0: never",
        "rad",
        0.0,
        math.pi,
    )

    @property
    def tolerance_ns(self) -> int:
        """sync_tolerance in nanoseconds."""
        return round(self.sync_tolerance * 1e9)

    @property
    def gap_ns(self) -> int:
        """pose_gap in nanoseconds."""
        return round(self.pose_gap * 1e9)
