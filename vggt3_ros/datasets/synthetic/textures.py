"""Materials and printed things, made from the photographs inside the scikit-image wheel: nothing is downloaded.

Every function takes a numpy Generator and a size in pixels (height, width), and returns (height, width, 3) uint8 sRGB; the same
generator state gives the same image, and every call a different piece of the material.
"""

import importlib.util
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

PICTURES = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png", "hubble_deep_field.jpg",
            "camera.png", "coins.png", "retina.jpg", "moon.png", "ihc.png", "logo.png")
STUFF = ("grass.png", "gravel.png", "brick.png")  # close-ups without a scene in them


@lru_cache(maxsize=None)
def photo(name):
    """One of the photographs, (height, width, 3) uint8 RGB. Raises FileNotFoundError when scikit-image lacks it."""
    spec = importlib.util.find_spec("skimage")  # not imported: only its files are wanted
    path = Path(spec.origin).parent / "data" / name if spec else Path(name)
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: install scikit-image from PyPI, whose wheel holds the photographs")
    image = np.array(Image.open(path).convert("RGB"))  # Pillow: OpenCV complains about the colour profile of one of them
    image.setflags(write=False)
    return image


def crop(rng, image, size, zoom=1.0):
    """A random piece of `image` with the aspect of `size` (height, width), 1/zoom of the largest that fits, perhaps mirrored."""
    height, width = size
    scale = min(image.shape[0] / height, image.shape[1] / width) / zoom
    h, w = max(int(height * scale), 2), max(int(width * scale), 2)
    y, x = rng.integers(0, image.shape[0] - h + 1), rng.integers(0, image.shape[1] - w + 1)
    piece = image[y:y + h, x:x + w]
    if rng.random() < 0.5:
        piece = piece[:, ::-1]
    return _resize(piece, size)


def muted(rng, value=(0.25, 0.85), saturation=(0.1, 0.58)):
    """A colour that paint, cloth and print come in, more often earth, blue or green: (3,) float sRGB 0..255."""
    middle, spread = ((28, 16), (28, 16), (212, 18), (100, 30), (0, 180))[rng.integers(5)]
    hsv = np.float32([[[rng.uniform(middle - spread, middle + spread) % 360, rng.uniform(*saturation), rng.uniform(*value)]]])
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0].astype(float) * 255


def noise(rng, size, cell):
    """Smooth noise of mean 0 and deviation about 1, float32 (height, width); cell: (height, width) of its grain in pixels."""
    rows, columns = (max(int(np.ceil(s / c)) + 3, 4) for s, c in zip(size, cell))
    coarse = rng.standard_normal((rows, columns)).astype(np.float32)
    large = cv2.resize(coarse, (int(columns * cell[1]) + 1, int(rows * cell[0]) + 1), interpolation=cv2.INTER_CUBIC)
    y, x = (int(rng.integers(0, large.shape[axis] - size[axis] + 1)) for axis in (0, 1))
    return large[y:y + size[0], x:x + size[1]] * 1.3


def plain(rng, size, color, grain=0.02):
    """Paint on plaster: nearly even, with the faint grain, clouds and scuffs that real walls have."""
    detail = _detail(rng, "gravel.png", size, 1.2)
    shade = 1 + grain * (0.7 * detail + noise(rng, size, (90, 90)) + 0.5 * noise(rng, size, (20, 25)))
    image = _tint(shade, color)
    for _ in range(rng.poisson(size[0] * size[1] / 60_000)):
        x, y = rng.integers(0, size[1]), rng.integers(0, size[0])
        angle, length = rng.uniform(0, np.pi), rng.uniform(2, 22)
        end = (int(x + length * np.cos(angle)), int(y + length * np.sin(angle)))
        mark = (np.asarray(color) * rng.uniform(0.72, 0.93)).tolist()
        cv2.line(image, (int(x), int(y)), end, mark, int(rng.integers(1, 3)), cv2.LINE_AA)
    return image


def wood(rng, size, color, along=1):
    """Wood with the grain along axis 1 (or 0): growth rings cut lengthwise, fibres and a few knots."""
    if along == 0:
        return np.ascontiguousarray(wood(rng, size[::-1], color).transpose(1, 0, 2))
    log = _log(int(rng.integers(3)))
    rows, columns = (_mirrored(int(rng.integers(0, 2 * length)), count, length) for count, length in zip(size, log.shape))
    return _tint(1 + rng.uniform(0.8, 1.2) * log[np.ix_(rows, columns)], color)


def fabric(rng, size, color, contrast=0.1):
    """Cloth: the structures of grass and gravel over each other in one colour, with folds."""
    detail = _detail(rng, "grass.png", size, rng.uniform(1.3, 2)) + _detail(rng, "gravel.png", size, rng.uniform(1.7, 2.4))
    return _tint(1 + contrast * detail + 0.05 * noise(rng, size, (70, 60)) + 0.03 * noise(rng, size, (8, 9)), color)


def stone(rng, size, color, contrast=0.13):
    """Polished stone or terrazzo."""
    fine, coarse = _detail(rng, "gravel.png", size, rng.uniform(1.8, 2.4)), _detail(rng, "moon.png", size, 0.7)
    return _tint(1 + contrast * (0.7 * fine + 0.3 * coarse) + 0.06 * noise(rng, size, (50, 70)), color)


def tiling(rng, size, tile, material, gap=2, gap_color=(140, 135, 128), shift=0.0, vary=0.08):
    """Tiles, bricks or planks of `tile` (height, width) pixels; material(rng, size) makes one piece; each row is moved by `shift`
    tiles (None: by chance, as planks are laid). `vary` is the deviation of brightness between pieces."""
    image = np.empty(size + (3,), np.uint8)
    image[:] = plain(rng, size, gap_color, 0.05)
    sheet = [material(rng, (tile[0], tile[1])) for _ in range(12)]  # a dozen pieces, each laid in its own brightness
    for row, y in enumerate(range(0, size[0], tile[0])):
        offset = int(tile[1] * (rng.random() if shift is None else (row * shift) % 1.0))
        for x in range(-offset, size[1], tile[1]):
            piece = sheet[rng.integers(len(sheet))]
            piece = piece[::-1] if rng.random() < 0.5 else piece
            piece = np.clip(piece * (1 + vary * rng.standard_normal() + 0.02 * rng.standard_normal(3)), 0, 255)
            y1, x0, x1 = min(y + tile[0] - gap, size[0]), max(x, 0), min(x + tile[1] - gap, size[1])
            if x1 > x0 and y1 > y:
                image[y:y1, x0:x1] = piece[:y1 - y, x0 - x:x1 - x]
    return image


def rug(rng, size, source=None):
    """A photograph mirrored in four, toned down to wool, with a border."""
    source = photo(source or ("ihc.png", "retina.jpg", "chelsea.png", "coffee.png", "hubble_deep_field.jpg")[rng.integers(5)])
    half = (size[0] // 2 + 1, size[1] // 2 + 1)
    piece = crop(rng, source, half, rng.uniform(1.2, 2.0))
    image = np.concatenate([piece, piece[:, ::-1]], axis=1)
    image = np.concatenate([image, image[::-1]], axis=0)[:size[0], :size[1]].copy()
    for inset, color in ((0.02, muted(rng)), (0.06, muted(rng)), (0.1, muted(rng))):
        d = int(inset * min(size))
        cv2.rectangle(image, (d, d), (size[1] - 1 - d, size[0] - 1 - d), color.tolist(), max(int(0.016 * min(size)), 1))
    shade = 1 + 0.1 * _detail(rng, "grass.png", size, 2.5)
    worn = 0.72 * image + 0.28 * image.mean(axis=(0, 1)) + 12
    return np.clip(worn * shade[..., None], 0, 255).astype(np.uint8)


def picture(rng, size, source=None, frame=None):
    """A framed photograph: cropped, mirrored and toned by chance; some with a passe-partout."""
    border = max(int(0.05 * min(size)), 2)
    image = np.empty(size + (3,), np.uint8)
    image[:] = wood(rng, size, frame if frame is not None else _choice(rng, FRAMES))
    if rng.random() < 0.5:
        image[border:-border, border:-border] = plain(rng, (size[0] - 2 * border, size[1] - 2 * border), (228, 224, 214), 0.01)
        border += max(int(rng.uniform(0.06, 0.12) * min(size)), 2)
    inner = (size[0] - 2 * border, size[1] - 2 * border)
    image[border:-border, border:-border] = toned(rng, crop(rng, photo(source or _choice(rng, PICTURES)), inner, rng.uniform(1, 1.25)))
    cv2.rectangle(image, (border - 1, border - 1), (size[1] - border, size[0] - border), (40, 36, 32), 1)
    return image


def toned(rng, image):
    """The same photograph as another print: other warmth, contrast, saturation."""
    image = image.astype(np.float32)
    grey = image.mean(axis=-1, keepdims=True)
    image = grey + (image - grey) * rng.uniform(0.35, 1.15)
    image = 118 + (image - image.mean()) * rng.uniform(0.75, 1.0) + rng.normal(0, 6, 3)
    return np.clip(image, 6, 244).astype(np.uint8)


def paper(rng, size, photo_share=0.5):
    """A magazine, letter or poster: a column of print and perhaps a photograph with a headline."""
    image = plain(rng, size, rng.uniform(205, 242) * np.array([1, 0.99, 0.96]), 0.015)
    m = max(int(0.06 * min(size)), 1)
    top = m
    if rng.random() < photo_share:
        height = int(rng.uniform(0.35, 0.6) * size[0])
        image[m:m + height, m:-m] = toned(rng, crop(rng, photo(_choice(rng, PICTURES)), (height, size[1] - 2 * m), rng.uniform(1, 1.8)))
        top += height + m
    body = (size[0] - top - m, size[1] - 2 * m)
    columns = rng.integers(1, 3)
    width, y = body[1] // columns - m // 2, 0
    while min(body) > 16 and y < body[0] - 8:  # the printed page in pieces, so that letters stay small
        print_ = crop(rng, _print(), (max(int(0.3 * width), 6), width), rng.uniform(1.0, 1.1))[:body[0] - y]
        for x in range(columns):
            left = m + x * (width + m)
            image[top + y:top + y + len(print_), left:left + width] = print_[:, :image.shape[1] - left]
        y += len(print_)
    text(rng, image, (m, m + int(0.1 * size[0])), 0.1 * size[0])
    return image


WORDS = ("ATLAS", "Kepler", "MOON", "Garden", "No. 7", "Lyrik", "ROMA", "Physics", "SALT", "Jazz", "Reise", "2041", "Kaffee", "OSLO",
         "Birds", "Linear", "Honig", "Novel", "Tea", "MILK", "Oats", "Sterne", "Radio", "Zucker", "North", "Vol. II", "Maps", "Basil")


def text(rng, image, origin, height, color=None):
    """Write a word or two into `image` in place, letters about `height` pixels tall."""
    color = tuple(float(c) for c in (color if color is not None else _choice(rng, LETTERS)))
    words = " ".join(_choice(rng, WORDS) for _ in range(rng.integers(1, 3)))
    font = (cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_TRIPLEX, cv2.FONT_HERSHEY_COMPLEX)[rng.integers(3)]
    cv2.putText(image, words, (int(origin[0]), int(origin[1])), font, height / 30, color, max(int(height / 14), 1), cv2.LINE_AA)


def spine(rng, size):
    """The back of a book: cloth or a printed cover, bands, and a title along it."""
    height, width = size
    color = muted(rng)
    image = fabric(rng, size, color, 0.06)
    if rng.random() < 0.35:
        image = toned(rng, crop(rng, photo(_choice(rng, PICTURES)), size, rng.uniform(1, 3)))
    along = np.ascontiguousarray(np.rot90(image))  # titles run along the spine
    text(rng, along, (rng.uniform(0.05, 0.3) * height, 0.72 * width), 0.5 * width, (235, 225, 190) if color.mean() < 120 else (30, 28, 40))
    image = np.ascontiguousarray(np.rot90(along, -1))
    for y in rng.uniform(0.03, 0.97, rng.integers(0, 4)):
        cv2.rectangle(image, (0, int(y * height)), (width, int(y * height) + int(rng.integers(1, 5))), muted(rng).tolist(), -1)
    image[:, :1], image[:, -1:] = image[:, :1] // 2, image[:, -1:] // 2
    return image


def label(rng, size):
    """The front of a carton: one colour, a photograph, a name."""
    image = fabric(rng, size, muted(rng), 0.03)
    h, w = int(size[0] * rng.uniform(0.35, 0.55)), int(size[1] * rng.uniform(0.6, 0.9))
    if min(h, w) > 4:
        y, x = int(size[0] * 0.4), (size[1] - w) // 2
        h = min(h, size[0] - y)
        image[y:y + h, x:x + w] = toned(rng, crop(rng, photo(_choice(rng, PICTURES)), (h, w), rng.uniform(1, 2)))
    text(rng, image, (0.06 * size[1], 0.24 * size[0]), 0.16 * size[0])
    text(rng, image, (0.06 * size[1], 0.37 * size[0]), 0.08 * size[0])
    return image


def panelled(rng, image, panels, handle=True, inset=0.1):
    """Draw door or drawer fronts into `image` in place; panels: (rows, columns)."""
    rows, columns = panels
    for r in range(rows):
        for c in range(columns):
            y0, y1 = (int(image.shape[0] * k / rows) for k in (r, r + 1))
            x0, x1 = (int(image.shape[1] * k / columns) for k in (c, c + 1))
            d = int(inset * min(y1 - y0, x1 - x0))
            shade = image[y0:y1, x0:x1].mean(axis=(0, 1))
            cv2.rectangle(image, (x0, y0), (x1 - 1, y1 - 1), (0.35 * shade).tolist(), 2)
            cv2.line(image, (x0 + d, y1 - d), (x0 + d, y0 + d), (0.72 * shade).tolist(), 2, cv2.LINE_AA)
            cv2.line(image, (x0 + d, y0 + d), (x1 - d, y0 + d), (0.72 * shade).tolist(), 2, cv2.LINE_AA)
            cv2.line(image, (x1 - d, y0 + d), (x1 - d, y1 - d), np.minimum(1.15 * shade, 255).tolist(), 2, cv2.LINE_AA)
            cv2.line(image, (x1 - d, y1 - d), (x0 + d, y1 - d), np.minimum(1.15 * shade, 255).tolist(), 2, cv2.LINE_AA)
            if handle:
                wide = (x1 - x0) > (y1 - y0)
                hx = (x0 + x1) // 2 if wide else (x1 - 2 * max(d, 6) if c % 2 == 0 else x0 + 2 * max(d, 6))
                hy = (y0 + y1) // 2
                length = int(0.12 * max(y1 - y0, x1 - x0))
                ends = ((hx - length, hy), (hx + length, hy)) if wide else ((hx, hy - length), (hx, hy + length))
                cv2.line(image, *ends, (60, 58, 55), 5, cv2.LINE_AA)
                cv2.line(image, *ends, (190, 186, 178), 2, cv2.LINE_AA)
    return image


FRAMES = ((42, 34, 28), (150, 110, 70), (206, 200, 190), (96, 62, 40), (180, 150, 90))
LETTERS = ((24, 24, 30), (150, 30, 34), (20, 60, 120), (240, 236, 224), (30, 90, 50))


def _choice(rng, options):
    return options[rng.integers(len(options))]


def _resize(image, size):
    shrinks = image.shape[0] > size[0] or image.shape[1] > size[1]
    return cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


@lru_cache(maxsize=None)
def _print():
    """Printed lines on paper of even brightness, cut from a photographed page."""
    page = photo("page.png")[50:160, 4:-8].astype(np.float32)
    lit = cv2.GaussianBlur(cv2.dilate(page, np.ones((9, 9))), None, 9)
    return np.clip(page / lit * 232, 20, 236).astype(np.uint8)


@lru_cache(maxsize=None)
def _log(number):
    """Relative brightness of a large board, (800, 1800) float32 around 0, that pieces of wood are cut from."""
    rng, size = np.random.default_rng([number, 17]), (800, 1800)
    across = np.arange(size[0], dtype=np.float32)[:, None]
    bend = 9 * noise(rng, size, (40, 260)) + 26 * noise(rng, size, (170, 600))
    rings = np.sin((across + bend) * rng.uniform(0.22, 0.4)) + 0.6 * np.sin((across + bend) * rng.uniform(0.05, 0.1))
    fibres = noise(rng, size, (1.6, 50)) + 0.6 * noise(rng, size, (3, 140))
    shade = 0.055 * rings + 0.06 * fibres + 0.05 * noise(rng, size, (60, 200))
    for _ in range(20):
        y, x, r = rng.integers(0, size[0]), rng.integers(0, size[1]), rng.uniform(3, 8)
        yy, xx = np.ogrid[:size[0], :size[1]]
        shade -= 0.35 * np.exp(-((yy - y) / r) ** 2 - ((xx - x) / (2.2 * r)) ** 2).astype(np.float32)
    return shade


@lru_cache(maxsize=None)
def _stuff(name):
    grey = photo(name).mean(axis=-1, dtype=np.float32)
    flat = grey - cv2.GaussianBlur(grey, None, 25)  # without its own lighting
    return flat / flat.std()


def _detail(rng, name, size, zoom):
    """A piece of a close-up, mirrored to any size, mean 0 and deviation 1; zoom: its pixels per texel."""
    flat = _stuff(name)
    h, w = int(size[0] * zoom) + 2, int(size[1] * zoom) + 2
    y, x = rng.integers(0, flat.shape[0]), rng.integers(0, flat.shape[1])
    rows, columns = (_mirrored(start, count, flat.shape[axis]) for axis, (start, count) in enumerate(((y, h), (x, w))))
    piece = _resize(flat[np.ix_(rows, columns)], size)
    return (piece - piece.mean()) / max(float(piece.std()), 0.3)


def _mirrored(start, count, length):
    index = (start + np.arange(count)) % (2 * length)
    return np.where(index < length, index, 2 * length - 1 - index)


def _tint(shade, color):
    return np.clip(shade[..., None] * np.asarray(color, np.float32), 0, 255).astype(np.uint8)
