"""Matches moved onto each other's patches, whatever cameras saw them."""

import cv2
import numpy as np
import pytest

from vggt3_ros.features.subpixel import align_patches


def picture(height=480, width=640):
    rng = np.random.default_rng(0)
    return cv2.normalize(
        cv2.GaussianBlur(rng.standard_normal((height, width)), (0, 0), 3),
        None,
        0,
        255,
        cv2.NORM_MINMAX,
    ).astype(np.uint8)


@pytest.mark.parametrize(
    "scale, size",
    [
        (1.0, (640, 480)),
        (1.0, (500, 400)),
        (1.0, (800, 640)),
        (0.5, (320, 240)),
        (1.6, (1024, 768)),
    ],
)
def test_matches_that_are_off_by_a_pixel_end_within_a_quarter(scale, size):
    first, shift = picture(), np.array([2.3, -1.6])
    turn = np.array(
        [[scale, 0, shift[0] + 0.5 * scale - 0.5], [0, scale, shift[1] + 0.5 * scale - 0.5]]
    )
    second = cv2.warpAffine(
        first,
        turn,
        size,
        flags=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REFLECT,
    )
    rng = np.random.default_rng(1)
    pixels = rng.uniform((60, 60), np.minimum((640, 480), np.array(size) / scale) - 60, (200, 2))
    true = (pixels + 0.5) * scale - 0.5 + shift
    start = true + rng.uniform(-1, 1, true.shape)
    moved = align_patches(first, second, pixels, start, scale)
    assert (
        np.median(np.linalg.norm(moved - true, axis=1))
        < 0.25
        < 0.5
        < np.median(np.linalg.norm(start - true, axis=1))
    )


def test_without_matches_nothing_happens():
    none = np.zeros((0, 2))
    assert align_patches(picture(), picture(100, 100), none, none).shape == (0, 2)
