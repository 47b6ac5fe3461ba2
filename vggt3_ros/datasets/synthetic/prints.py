"""Printed and woven things made from photographs: pictures, posters, papers, books, cartons, rugs,
cupboard fronts.

Functions that return an image take a numpy Generator and a size in pixels (height, width), and
return (height, width, 3) uint8 sRGB.
"""

from collections.abc import Sequence
from functools import cache
from typing import TypeVar

import cv2
import numpy as np

from vggt3_ros.datasets.synthetic.textures import (
    Color,
    Size,
    crop,
    detail,
    fabric,
    muted,
    photo,
    plain,
    wood,
)

Option = TypeVar("Option")
PICTURES = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "rocket.jpg",
    "motorcycle_left.png",
    "hubble_deep_field.jpg",
    "camera.png",
    "coins.png",
    "retina.jpg",
    "moon.png",
    "ihc.png",
    "logo.png",
)
WORDS = (
    "ATLAS",
    "Kepler",
    "MOON",
    "Garden",
    "No. 7",
    "Lyrik",
    "ROMA",
    "Physics",
    "SALT",
    "Jazz",
    "Reise",
    "2041",
    "Kaffee",
    "OSLO",
    "Birds",
    "Linear",
    "Honig",
    "Novel",
    "Tea",
    "MILK",
    "Oats",
    "Sterne",
    "Radio",
    "Zucker",
    "North",
    "Vol. II",
    "Maps",
    "Basil",
)
FRAMES = ((42, 34, 28), (150, 110, 70), (206, 200, 190), (96, 62, 40), (180, 150, 90))
LETTERS = ((24, 24, 30), (150, 30, 34), (20, 60, 120), (240, 236, 224), (30, 90, 50))


def rug(rng: np.random.Generator, size: Size, source: str | None = None) -> np.ndarray:
    """A photograph mirrored into four quadrants, with muted contrast, and a border. source: of
    PICTURES.
    """
    pattern = photo(
        source
        or ("ihc.png", "retina.jpg", "chelsea.png", "coffee.png", "hubble_deep_field.jpg")[
            rng.integers(5)
        ]
    )
    half = (size[0] // 2 + 1, size[1] // 2 + 1)
    piece = crop(rng, pattern, half, rng.uniform(1.2, 2.0))
    image = np.concatenate([piece, piece[:, ::-1]], axis=1)
    image = np.concatenate([image, image[::-1]], axis=0)[: size[0], : size[1]].copy()
    for inset, color in ((0.02, muted(rng)), (0.06, muted(rng)), (0.1, muted(rng))):
        d = int(inset * min(size))
        cv2.rectangle(
            image,
            (d, d),
            (size[1] - 1 - d, size[0] - 1 - d),
            color.tolist(),
            max(int(0.016 * min(size)), 1),
        )
    shade = 1 + 0.1 * detail(rng, "grass.png", size, 2.5)
    worn = 0.72 * image + 0.28 * image.mean(axis=(0, 1)) + 12
    return np.asarray(np.clip(worn * shade[..., None], 0, 255)).astype(np.uint8)


def picture(
    rng: np.random.Generator, size: Size, source: str | None = None, frame: Color | None = None
) -> np.ndarray:
    """A framed photograph, randomly cropped, mirrored and toned; some have a mount. frame: its
    colour.
    """
    border = max(int(0.05 * min(size)), 2)
    image = np.empty(size + (3,), np.uint8)
    image[:] = wood(rng, size, frame if frame is not None else _choice(rng, FRAMES))
    if rng.random() < 0.5:
        image[border:-border, border:-border] = plain(
            rng, (size[0] - 2 * border, size[1] - 2 * border), (228, 224, 214), 0.01
        )
        border += max(int(rng.uniform(0.06, 0.12) * min(size)), 2)
    inner = (size[0] - 2 * border, size[1] - 2 * border)
    shown = photo(source or _choice(rng, PICTURES))
    image[border:-border, border:-border] = toned(
        rng, crop(rng, shown, inner, rng.uniform(1, 1.25))
    )
    cv2.rectangle(
        image, (border - 1, border - 1), (size[1] - border, size[0] - border), (40, 36, 32), 1
    )
    return image


def toned(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """The same photograph as another print, with different warmth, contrast and saturation."""
    image = image.astype(np.float32)
    grey = image.mean(axis=-1, keepdims=True)
    image = grey + (image - grey) * rng.uniform(0.35, 1.15)
    image = 118 + (image - image.mean()) * rng.uniform(0.75, 1.0) + rng.normal(0, 6, 3)
    return np.asarray(np.clip(image, 6, 244)).astype(np.uint8)


def paper(rng: np.random.Generator, size: Size, photo_share: float = 0.5) -> np.ndarray:
    """A magazine, letter or poster: columns of print, and a photograph with probability
    `photo_share`; with a headline.
    """
    image = plain(rng, size, rng.uniform(205, 242) * np.array([1, 0.99, 0.96]), 0.015)
    m = max(int(0.06 * min(size)), 1)
    top = m
    if rng.random() < photo_share:
        height = int(rng.uniform(0.35, 0.6) * size[0])
        shown = crop(
            rng, photo(_choice(rng, PICTURES)), (height, size[1] - 2 * m), rng.uniform(1, 1.8)
        )
        image[m : m + height, m:-m] = toned(rng, shown)
        top += height + m
    body = (size[0] - top - m, size[1] - 2 * m)
    columns = int(rng.integers(1, 3))
    width, y = body[1] // columns - m // 2, 0
    # cut the printed page into pieces, so that letters stay small
    while min(body) > 16 and y < body[0] - 8:
        print_ = crop(rng, _print(), (max(int(0.3 * width), 6), width), rng.uniform(1.0, 1.1))[
            : body[0] - y
        ]
        for x in range(columns):
            left = m + x * (width + m)
            image[top + y : top + y + len(print_), left : left + width] = print_[
                :, : image.shape[1] - left
            ]
        y += len(print_)
    text(rng, image, (m, m + int(0.1 * size[0])), 0.1 * size[0])
    return image


def text(
    rng: np.random.Generator,
    image: np.ndarray,
    origin: tuple[float, float],
    height: float,
    color: Color | None = None,
) -> None:
    """Write one or two words into `image` in place, with letters about `height` pixels tall."""
    color = tuple(float(c) for c in (color if color is not None else _choice(rng, LETTERS)))
    words = " ".join(_choice(rng, WORDS) for _ in range(rng.integers(1, 3)))
    font = (cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_TRIPLEX, cv2.FONT_HERSHEY_COMPLEX)[
        rng.integers(3)
    ]
    cv2.putText(
        image,
        words,
        (int(origin[0]), int(origin[1])),
        font,
        height / 30,
        color,
        max(int(height / 14), 1),
        cv2.LINE_AA,
    )


def spine(rng: np.random.Generator, size: Size) -> np.ndarray:
    """The spine of a book: cloth or a printed cover, bands, and a title along it."""
    height, width = size
    color = muted(rng)
    image = fabric(rng, size, color, 0.06)
    if rng.random() < 0.35:
        image = toned(rng, crop(rng, photo(_choice(rng, PICTURES)), size, rng.uniform(1, 3)))
    along = np.ascontiguousarray(np.rot90(image))  # titles run along the spine
    ink = (235, 225, 190) if color.mean() < 120 else (30, 28, 40)
    text(rng, along, (rng.uniform(0.05, 0.3) * height, 0.72 * width), 0.5 * width, ink)
    image = np.ascontiguousarray(np.rot90(along, -1))
    for y in rng.uniform(0.03, 0.97, rng.integers(0, 4)):
        cv2.rectangle(
            image,
            (0, int(y * height)),
            (width, int(y * height) + int(rng.integers(1, 5))),
            muted(rng).tolist(),
            -1,
        )
    image[:, :1], image[:, -1:] = image[:, :1] // 2, image[:, -1:] // 2
    return image


def label(rng: np.random.Generator, size: Size) -> np.ndarray:
    """The front of a carton: one colour, a photograph, a name."""
    image = fabric(rng, size, muted(rng), 0.03)
    h, w = int(size[0] * rng.uniform(0.35, 0.55)), int(size[1] * rng.uniform(0.6, 0.9))
    if min(h, w) > 4:
        y, x = int(size[0] * 0.4), (size[1] - w) // 2
        h = min(h, size[0] - y)
        image[y : y + h, x : x + w] = toned(
            rng, crop(rng, photo(_choice(rng, PICTURES)), (h, w), rng.uniform(1, 2))
        )
    text(rng, image, (0.06 * size[1], 0.24 * size[0]), 0.16 * size[0])
    text(rng, image, (0.06 * size[1], 0.37 * size[0]), 0.08 * size[0])
    return image


def panelled(
    rng: np.random.Generator,
    image: np.ndarray,
    panels: tuple[int, int],
    handle: bool = True,
    inset: float = 0.1,
) -> np.ndarray:
    """Draw door or drawer fronts into `image` in place and return it; panels: (rows, columns)."""
    rows, columns = panels
    for r in range(rows):
        for c in range(columns):
            y0, y1 = (int(image.shape[0] * k / rows) for k in (r, r + 1))
            x0, x1 = (int(image.shape[1] * k / columns) for k in (c, c + 1))
            d = int(inset * min(y1 - y0, x1 - x0))
            shade = image[y0:y1, x0:x1].mean(axis=(0, 1))
            cv2.rectangle(image, (x0, y0), (x1 - 1, y1 - 1), (0.35 * shade).tolist(), 2)
            cv2.line(
                image, (x0 + d, y1 - d), (x0 + d, y0 + d), (0.72 * shade).tolist(), 2, cv2.LINE_AA
            )
            cv2.line(
                image, (x0 + d, y0 + d), (x1 - d, y0 + d), (0.72 * shade).tolist(), 2, cv2.LINE_AA
            )
            cv2.line(
                image,
                (x1 - d, y0 + d),
                (x1 - d, y1 - d),
                np.minimum(1.15 * shade, 255).tolist(),
                2,
                cv2.LINE_AA,
            )
            cv2.line(
                image,
                (x1 - d, y1 - d),
                (x0 + d, y1 - d),
                np.minimum(1.15 * shade, 255).tolist(),
                2,
                cv2.LINE_AA,
            )
            if handle:
                wide = (x1 - x0) > (y1 - y0)
                hx = (
                    (x0 + x1) // 2
                    if wide
                    else (x1 - 2 * max(d, 6) if c % 2 == 0 else x0 + 2 * max(d, 6))
                )
                hy = (y0 + y1) // 2
                length = int(0.12 * max(y1 - y0, x1 - x0))
                ends = (
                    ((hx - length, hy), (hx + length, hy))
                    if wide
                    else ((hx, hy - length), (hx, hy + length))
                )
                cv2.line(image, *ends, (60, 58, 55), 5, cv2.LINE_AA)
                cv2.line(image, *ends, (190, 186, 178), 2, cv2.LINE_AA)
    return image


def _choice(rng: np.random.Generator, options: Sequence[Option]) -> Option:
    return options[int(rng.integers(len(options)))]


@cache
def _print() -> np.ndarray:
    """Printed lines on paper of uniform brightness, cut from a photographed page."""
    page = photo("page.png")[50:160, 4:-8].astype(np.float32)
    lit = cv2.GaussianBlur(cv2.dilate(page, np.ones((9, 9))), (0, 0), 9)
    image: np.ndarray = np.clip(page / lit * 232, 20, 236)
    return image.astype(np.uint8)
