"""Progress reports and cancellation of a running map() or query()."""

from collections.abc import Callable

from vggt3_ros.system.stages import Cancelled


class Progress:
    """Count work in image-blocks (one transformer block applied to one image), and check for
    cancellation after each step.

    ``report(fraction, stage)`` receives a fraction in 0..1 and the name of the stage. If
    ``cancelled()`` returns True, the next check raises Cancelled. A check follows every block of
    every chunk of images.
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
        """Begin a pass of ``total`` image-blocks. A retried pass begins again at 0."""
        self._total = total
        self._done = 0

    def advance(self, amount: int, stage: str) -> None:
        """Add ``amount`` image-blocks, check for cancellation, and report."""
        self._done += amount
        self.check()
        if self._report is not None:
            self._report(min(1.0, self._done / self._total) if self._total else 0.0, stage)

    def check(self) -> None:
        """Raise Cancelled if the caller has requested it."""
        if self._cancelled is not None and self._cancelled():
            raise Cancelled
