"""Progress reports and cancellation of a running map() or query()."""

from collections.abc import Callable

from vggt3_ros.system.stages import Cancelled


class Progress:
    """Counts work in image-blocks (one transformer block on one image) and asks after each step
    whether to go on.

    ``report(fraction, stage)`` gets a fraction in 0..1 and the name of the stage; ``cancelled()``
    returns True to stop the pass, which then raises Cancelled from the next check. Checks follow
    every block of a chunk of images.
    """

    def __init__(
        self,
        report: Callable[[float, str], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ):
        self._report = report
        self._cancelled = cancelled
        self._total = 0
        self._done = 0

    def start(self, total: int) -> None:
        """Begin a pass of this many image-blocks; a retried pass begins again."""
        self._total = total
        self._done = 0

    def advance(self, amount: int, stage: str) -> None:
        self._done += amount
        self.check()
        if self._report is not None:
            self._report(min(1.0, self._done / self._total) if self._total else 0.0, stage)

    def check(self) -> None:
        """Raise Cancelled if the caller has asked for it."""
        if self._cancelled is not None and self._cancelled():
            raise Cancelled
