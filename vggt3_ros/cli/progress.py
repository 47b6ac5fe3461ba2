"""Show a progress bar for each stage of a refinement."""

from typing import NoReturn, Self

from tqdm import tqdm


class StageBars:
    """Progress bars as a context manager.

    bars(stage, fraction) opens the bar of a stage, moves it, and closes it when the next stage
    begins.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.stage: str | None = None
        self.bar: tqdm[NoReturn] | None = None

    def __call__(self, stage: str, fraction: float) -> None:
        """Show the progress of a stage."""
        if stage != self.stage:
            self.close()
            self.stage = stage
            self.bar = tqdm(
                total=100,
                desc=f"{stage:<14}",
                disable=self.quiet or None,
                bar_format="{desc}{percentage:3.0f}%|{bar:40}| {elapsed}",
            )
        if self.bar is not None:
            self.bar.update(max(0, 100 * fraction - self.bar.n))

    def close(self) -> None:
        """Complete the current bar."""
        if self.bar is not None:
            self.bar.update(100 - self.bar.n)
            self.bar.close()
        self.stage = self.bar = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
