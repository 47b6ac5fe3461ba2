"""An encoder that needs no network."""

import numpy as np

from vggt3_ros.features.xfeat import Features

WIDTH, HEIGHT, KEYFRAMES = 320, 240, 300


class StandInEncoder:
    """Features of the sizes that the real one gives, in no time."""

    config = "of a test"

    def encode(self, image):
        rng = np.random.default_rng(int(image[0, 0, 0]))
        pixels = rng.uniform(0, (WIDTH - 1, HEIGHT - 1), (200, 2)).astype(np.float32)
        return Features(
            WIDTH,
            HEIGHT,
            pixels,
            np.ones(200, np.float32),
            np.ones((200, 64), np.float16),
            rng.normal(size=(64, HEIGHT // 8, WIDTH // 8)).astype(np.float16),
            np.ones((HEIGHT // 8, WIDTH // 8), np.float16),
        )
