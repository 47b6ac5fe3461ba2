"""The evidence for an estimated pose, collected once and compared with thresholds. `vggt3
benchmark refusals` shows the margins of these thresholds.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Evidence:
    """agreeing: number of matches that agree with the pose. share: agreeing matches divided by
    matches tried. similarity: median cosine similarity between the image and the map's prediction.
    shown: share of the image for which the map predicts anything.
    """

    agreeing: int
    share: float
    similarity: float
    shown: float

    def convinces(self, agreeing: int, share: float, similarity: float, shown: float) -> bool:
        """Return whether every value reaches its threshold."""
        return (
            self.agreeing >= agreeing
            and self.share >= share
            and self.similarity >= similarity
            and self.shown >= shown
        )
