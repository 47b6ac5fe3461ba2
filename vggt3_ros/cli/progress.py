"""A progress bar for each stage of a refinement."""

from tqdm import tqdm


class StageBars:
    """bars(stage, fraction): opens the stage's bar, moves it, closes it when the next begins. Use
    in a with statement.
    """

    def __init__(self, quiet=False):
        self.quiet, self.stage, self.bar = quiet, None, None

    def __call__(self, stage, fraction):
        if stage != self.stage:
            self.close()
            self.stage = stage
            self.bar = tqdm(
                total=100,
                desc=f"{stage:<14}",
                disable=self.quiet or None,
                bar_format="{desc}{percentage:3.0f}%|{bar:40}| {elapsed}",
            )
        self.bar.update(max(0, 100 * fraction - self.bar.n))

    def close(self):
        if self.bar is not None:
            self.bar.update(100 - self.bar.n)
            self.bar.close()
        self.stage = self.bar = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
