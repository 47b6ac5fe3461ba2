"""Materials made from the photographs inside the scikit-image wheel: nothing is downloaded.

Every function takes a numpy Generator and a size in pixels (height, width), and returns (height,
width, 3) uint8 sRGB; the same generator state gives the same image, and every call a different
piece of the material.
"""

import importlib.util
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image


@cache
def photo(name):
    """One of the photographs, (height, width, 3) uint8 RGB. Raises FileNotFoundError when
    scikit-image lacks it.
    """
    spec = importlib.util.find_spec("skimage")  # not imported: only its files are wanted
    path = Path(spec.origin).parent / "data" / name if spec else Path(name)
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is missing: install scikit-image from PyPI, whose wheel holds the photographs"
        )
    # Pillow: OpenCV complains about the colour profile of one of them
    image = np.array(Image.open(path).convert("RGB"))
    image.setflags(write=False)
    return image


def crop(rng, image, size, zoom=1.0):
    """A random piece of `image` with the aspect of `size` (height, width), 1/zoom of the largest
    that fits, perhaps mirrored.
    """
    height, width = size
    scale = min(image.shape[0] / height, image.shape[1] / width) / zoom
    h, w = max(int(height * scale), 2), max(int(width * scale), 2)
    y, x = rng.integers(0, image.shape[0] - h + 1), rng.integers(0, image.shape[1] - w + 1)
    piece = image[y : y + h, x : x + w]
    if rng.random() < 0.5:
        piece = piece[:, ::-1]
    return _resize(piece, size)


def muted(rng, value=(0.25, 0.85), saturation=(0.1, 0.58)):
    """A colour that paint, cloth and print come in, more often earth, blue or green: (3,) float
    sRGB 0..255.
    """
    middle, spread = ((28, 16), (28, 16), (212, 18), (100, 30), (0, 180))[rng.integers(5)]
    hsv = np.float32(
        [
            [
                [
                    rng.uniform(middle - spread, middle + spread) % 360,
                    rng.uniform(*saturation),
                    rng.uniform(*value),
                ]
            ]
        ]
    )
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0].astype(float) * 255


def noise(rng, size, cell):
    """Smooth noise of mean 0 and deviation about 1, float32 (height, width); cell: (height, width)
    of its grain in pixels.
    """
    finer = int(max(min(cell) // 5, 1))
    if finer > 1:  # large grains are made small and enlarged: much faster
        small = noise(rng, [-(-s // finer) + 1 for s in size], [c / finer for c in cell])
        return cv2.resize(small, None, fx=finer, fy=finer, interpolation=cv2.INTER_LINEAR)[
            : size[0], : size[1]
        ]
    rows, columns = (max(int(np.ceil(s / c)) + 3, 4) for s, c in zip(size, cell))
    coarse = rng.standard_normal((rows, columns)).astype(np.float32)
    large = cv2.resize(
        coarse,
        (int(columns * cell[1]) + 1, int(rows * cell[0]) + 1),
        interpolation=cv2.INTER_CUBIC,
    )
    y, x = (int(rng.integers(0, large.shape[axis] - size[axis] + 1)) for axis in (0, 1))
    return large[y : y + size[0], x : x + size[1]] * 1.3


def plain(rng, size, color, grain=0.02):
    """Paint on plaster: nearly even, with the faint grain, clouds and scuffs that real walls
    have.
    """
    fine = detail(rng, "gravel.png", size, 1.2)
    shade = 1 + grain * (
        0.7 * fine + noise(rng, size, (90, 90)) + 0.5 * noise(rng, size, (20, 25))
    )
    image = _tint(shade, color)
    for _ in range(rng.poisson(size[0] * size[1] / 60_000)):
        x, y = rng.integers(0, size[1]), rng.integers(0, size[0])
        angle, length = rng.uniform(0, np.pi), rng.uniform(2, 22)
        end = (int(x + length * np.cos(angle)), int(y + length * np.sin(angle)))
        mark = (np.asarray(color) * rng.uniform(0.72, 0.93)).tolist()
        cv2.line(image, (int(x), int(y)), end, mark, int(rng.integers(1, 3)), cv2.LINE_AA)
    return image


def wood(rng, size, color, along=1):
    """Wood with the grain along axis 1 (or 0): growth rings cut lengthwise, fibres and a few
    knots.
    """
    if along == 0:
        return np.ascontiguousarray(wood(rng, size[::-1], color).transpose(1, 0, 2))
    log = _log(int(rng.integers(3)))
    rows, columns = (
        _mirrored(int(rng.integers(0, 2 * length)), count, length)
        for count, length in zip(size, log.shape)
    )
    return _tint(1 + rng.uniform(0.8, 1.2) * log[np.ix_(rows, columns)], color)


def fabric(rng, size, color, contrast=0.1):
    """Cloth: the structures of grass and gravel over each other in one colour, with folds."""
    fine = detail(rng, "grass.png", size, rng.uniform(1.3, 2)) + detail(
        rng, "gravel.png", size, rng.uniform(1.7, 2.4)
    )
    return _tint(
        1 + contrast * fine + 0.05 * noise(rng, size, (70, 60)) + 0.03 * noise(rng, size, (8, 9)),
        color,
    )


def stone(rng, size, color, contrast=0.13):
    """Polished stone or terrazzo."""
    fine, coarse = (
        detail(rng, "gravel.png", size, rng.uniform(1.8, 2.4)),
        detail(rng, "moon.png", size, 0.7),
    )
    return _tint(
        1 + contrast * (0.7 * fine + 0.3 * coarse) + 0.06 * noise(rng, size, (50, 70)), color
    )


def tiling(rng, size, tile, material, gap=2, gap_color=(140, 135, 128), shift=0.0, vary=0.08):
    """Tiles, bricks or planks of `tile` (height, width) pixels; material(rng, size) makes one
    piece; each row is moved by `shift` tiles (None: by chance, as planks are laid). `vary` is the
    deviation of brightness between pieces.
    """
    image = np.empty(size + (3,), np.uint8)
    image[:] = plain(rng, size, gap_color, 0.05)
    # a dozen pieces, each laid in its own brightness
    sheet = [material(rng, (tile[0], tile[1])) for _ in range(12)]
    for row, y in enumerate(range(0, size[0], tile[0])):
        offset = int(tile[1] * (rng.random() if shift is None else (row * shift) % 1.0))
        for x in range(-offset, size[1], tile[1]):
            piece = sheet[rng.integers(len(sheet))]
            piece = piece[::-1] if rng.random() < 0.5 else piece
            piece = np.clip(
                piece * (1 + vary * rng.standard_normal() + 0.02 * rng.standard_normal(3)), 0, 255
            )
            y1, x0, x1 = (
                min(y + tile[0] - gap, size[0]),
                max(x, 0),
                min(x + tile[1] - gap, size[1]),
            )
            if x1 > x0 and y1 > y:
                image[y:y1, x0:x1] = piece[: y1 - y, x0 - x : x1 - x]
    return image


def _resize(image, size):
    shrinks = image.shape[0] > size[0] or image.shape[1] > size[1]
    return cv2.resize(
        image, (size[1], size[0]), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    )


@cache
def _log(number):
    """Relative brightness of a large board, (800, 1800) float32 around 0, that pieces of wood are
    cut from.
    """
    rng, size = np.random.default_rng([number, 17]), (800, 1800)
    across = np.arange(size[0], dtype=np.float32)[:, None]
    bend = 9 * noise(rng, size, (40, 260)) + 26 * noise(rng, size, (170, 600))
    rings = np.sin((across + bend) * rng.uniform(0.22, 0.4)) + 0.6 * np.sin(
        (across + bend) * rng.uniform(0.05, 0.1)
    )
    fibres = noise(rng, size, (1.6, 50)) + 0.6 * noise(rng, size, (3, 140))
    shade = 0.055 * rings + 0.06 * fibres + 0.05 * noise(rng, size, (60, 200))
    for _ in range(20):
        y, x, r = rng.integers(0, size[0]), rng.integers(0, size[1]), rng.uniform(3, 8)
        yy, xx = np.ogrid[: size[0], : size[1]]
        shade -= 0.35 * np.exp(-(((yy - y) / r) ** 2) - ((xx - x) / (2.2 * r)) ** 2).astype(
            np.float32
        )
    return shade


@cache
def _stuff(name):
    grey = photo(name).mean(axis=-1, dtype=np.float32)
    flat = grey - cv2.GaussianBlur(grey, None, 25)  # without its own lighting
    return flat / flat.std()


def detail(rng, name, size, zoom):
    """A piece of a close-up, mirrored to any size, mean 0 and deviation 1; zoom: its pixels per
    texel.
    """
    flat = _stuff(name)
    h, w = int(size[0] * zoom) + 2, int(size[1] * zoom) + 2
    y, x = rng.integers(0, flat.shape[0]), rng.integers(0, flat.shape[1])
    rows, columns = (
        _mirrored(start, count, flat.shape[axis])
        for axis, (start, count) in enumerate(((y, h), (x, w)))
    )
    piece = _resize(flat[np.ix_(rows, columns)], size)
    return (piece - piece.mean()) / max(float(piece.std()), 0.3)


def _mirrored(start, count, length):
    index = (start + np.arange(count)) % (2 * length)
    return np.where(index < length, index, 2 * length - 1 - index)


def _tint(shade, color):
    return np.clip(shade[..., None] * np.asarray(color, np.float32), 0, 255).astype(np.uint8)
