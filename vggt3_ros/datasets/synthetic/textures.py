"""Materials made from the photographs in the scikit-image wheel; nothing is downloaded.

Every function takes a numpy Generator and a size in pixels (height, width), and returns (height,
width, 3) uint8 sRGB. The same generator state gives the same image; successive calls give
different pieces of the material.
"""

import importlib.util
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

Size = tuple[int, int]  # height, width in pixels
Color = Sequence[float] | np.ndarray  # sRGB, 0..255
Painter = Callable[[np.random.Generator, Size], np.ndarray]


@cache
def photo(name: str) -> np.ndarray:
    """Return one of the photographs, (height, width, 3) uint8 RGB. Raise FileNotFoundError if
    scikit-image lacks it.
    """
    spec = importlib.util.find_spec("skimage")  # not imported: only its files are needed
    path = Path(spec.origin).parent / "data" / name if spec and spec.origin else Path(name)
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is missing: install scikit-image from PyPI, whose wheel contains the photographs"
        )
    # Pillow, because OpenCV warns about the colour profile of one of them
    image = np.array(Image.open(path).convert("RGB"))
    image.setflags(write=False)
    return image


def crop(rng: np.random.Generator, image: np.ndarray, size: Size, zoom: float = 1.0) -> np.ndarray:
    """Return a random piece of `image` resized to `size` (height, width), sometimes mirrored. It
    is 1/zoom times as large as the largest piece of that aspect.
    """
    height, width = size
    scale = min(image.shape[0] / height, image.shape[1] / width) / zoom
    h, w = max(int(height * scale), 2), max(int(width * scale), 2)
    y, x = rng.integers(0, image.shape[0] - h + 1), rng.integers(0, image.shape[1] - w + 1)
    piece = image[y : y + h, x : x + w]
    if rng.random() < 0.5:
        piece = piece[:, ::-1]
    return _resize(piece, size)


def muted(
    rng: np.random.Generator,
    value: tuple[float, float] = (0.25, 0.85),
    saturation: tuple[float, float] = (0.1, 0.58),
) -> np.ndarray:
    """Return a random colour typical of paint, cloth and print, more often earth, blue or green:
    (3,) float sRGB in 0..255.

    value, saturation: ranges, 0..1.
    """
    middle, spread = ((28, 16), (28, 16), (212, 18), (100, 30), (0, 180))[rng.integers(5)]
    hue = rng.uniform(middle - spread, middle + spread) % 360
    hsv = np.array([[[hue, rng.uniform(*saturation), rng.uniform(*value)]]], np.float32)
    color: np.ndarray = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0]
    return color.astype(float) * 255


def noise(rng: np.random.Generator, size: Sequence[int], cell: Sequence[float]) -> np.ndarray:
    """Return smooth noise (height, width) float32 of mean 0 and standard deviation about 1.

    cell: (height, width) of its grain in pixels.
    """
    finer = int(max(min(cell) // 5, 1))
    if finer > 1:  # for speed, generate coarse noise small and enlarge it
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


def plain(rng: np.random.Generator, size: Size, color: Color, grain: float = 0.02) -> np.ndarray:
    """Paint on plaster: nearly uniform, with the faint grain, blotches and scuffs of real walls."""
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


def wood(rng: np.random.Generator, size: Size, color: Color, along: int = 1) -> np.ndarray:
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


def fabric(
    rng: np.random.Generator, size: Size, color: Color, contrast: float = 0.1
) -> np.ndarray:
    """Cloth: the textures of grass and gravel superimposed in one colour, with folds."""
    fine = detail(rng, "grass.png", size, rng.uniform(1.3, 2)) + detail(
        rng, "gravel.png", size, rng.uniform(1.7, 2.4)
    )
    return _tint(
        1 + contrast * fine + 0.05 * noise(rng, size, (70, 60)) + 0.03 * noise(rng, size, (8, 9)),
        color,
    )


def stone(
    rng: np.random.Generator, size: Size, color: Color, contrast: float = 0.13
) -> np.ndarray:
    """Polished stone or terrazzo."""
    fine, coarse = (
        detail(rng, "gravel.png", size, rng.uniform(1.8, 2.4)),
        detail(rng, "moon.png", size, 0.7),
    )
    return _tint(
        1 + contrast * (0.7 * fine + 0.3 * coarse) + 0.06 * noise(rng, size, (50, 70)), color
    )


def tiling(
    rng: np.random.Generator,
    size: Size,
    tile: Size,
    material: Painter,
    gap: int = 2,
    gap_color: Color = (140, 135, 128),
    shift: float | None = 0.0,
    vary: float = 0.08,
) -> np.ndarray:
    """Tiles, bricks or planks of `tile` (height, width) pixels; material(rng, size) makes one
    piece.

    shift: offset of successive rows in tiles; None: random, as planks are laid. vary: standard
    deviation of the brightness between pieces.
    """
    image = np.empty(size + (3,), np.uint8)
    image[:] = plain(rng, size, gap_color, 0.05)
    # a dozen pieces, each laid with its own brightness
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


def _resize(image: np.ndarray, size: Size) -> np.ndarray:
    shrinks = image.shape[0] > size[0] or image.shape[1] > size[1]
    return cv2.resize(
        image, (size[1], size[0]), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    )


@cache
def _log(number: int) -> np.ndarray:
    """Relative brightness of a large board, (800, 1800) float32 around 0, from which pieces of
    wood are cut.
    """
    rng, size = np.random.default_rng([number, 17]), (800, 1800)
    across = np.arange(size[0], dtype=np.float32)[:, None]
    bend = 9 * noise(rng, size, (40, 260)) + 26 * noise(rng, size, (170, 600))
    rings = np.sin((across + bend) * rng.uniform(0.22, 0.4)) + 0.6 * np.sin(
        (across + bend) * rng.uniform(0.05, 0.1)
    )
    fibres = noise(rng, size, (1.6, 50)) + 0.6 * noise(rng, size, (3, 140))
    shade: np.ndarray = 0.055 * rings + 0.06 * fibres + 0.05 * noise(rng, size, (60, 200))
    for _ in range(20):
        y, x, r = rng.integers(0, size[0]), rng.integers(0, size[1]), rng.uniform(3, 8)
        yy, xx = np.ogrid[: size[0], : size[1]]
        shade -= 0.35 * np.exp(-(((yy - y) / r) ** 2) - ((xx - x) / (2.2 * r)) ** 2).astype(
            np.float32
        )
    return shade


@cache
def _flattened(name: str) -> np.ndarray:
    """Return a photograph's detail: grey values without large-scale lighting, standard deviation
    1.
    """
    grey = photo(name).mean(axis=-1, dtype=np.float32)
    flat: np.ndarray = grey - cv2.GaussianBlur(
        grey, (0, 0), 25
    )  # remove the photograph's own lighting
    return np.asarray(flat / flat.std())


def detail(rng: np.random.Generator, name: str, size: Size, zoom: float) -> np.ndarray:
    """Return a piece of a close-up photograph, mirrored to any size, mean 0 and standard deviation
    1.

    zoom: pixels of the photograph per texel.
    """
    flat = _flattened(name)
    h, w = int(size[0] * zoom) + 2, int(size[1] * zoom) + 2
    y, x = rng.integers(0, flat.shape[0]), rng.integers(0, flat.shape[1])
    rows, columns = (
        _mirrored(int(start), count, flat.shape[axis])
        for axis, (start, count) in enumerate(((y, h), (x, w)))
    )
    piece = _resize(flat[np.ix_(rows, columns)], size)
    normalised: np.ndarray = (piece - piece.mean()) / max(float(piece.std()), 0.3)
    return normalised


def _mirrored(start: int, count: int, length: int) -> np.ndarray:
    index = (start + np.arange(count)) % (2 * length)
    return np.where(index < length, index, 2 * length - 1 - index)


def _tint(shade: np.ndarray, color: Color) -> np.ndarray:
    image: np.ndarray = np.clip(shade[..., None] * np.asarray(color, np.float32), 0, 255)
    return image.astype(np.uint8)
