"""What speaks for a pose that an image was given: counted once, judged by thresholds that `vggt3
benchmark refusals` shows the margin of.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Evidence:
    """agreeing: matches that agree with the pose; share: of those tried; similarity: median of
    what the image shows with what the map expects there (cosine); shown: share of the image that
    the map expects anything in.
    """

    agreeing: int
    share: float
    similarity: float
    shown: float

    def convinces(self, agreeing, share, similarity, shown):
        """Whether each is at least as large."""
        return (
            self.agreeing >= agreeing
            and self.share >= share
            and self.similarity >= similarity
            and self.shown >= shown
        )
