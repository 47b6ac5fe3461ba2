"""Lossless coding of the store's images and depth maps: differences to the left neighbour, then zstd.

640x480 on one core: RGB 4 ms in 0.34 MB (PNG at its fastest level: 16 ms in 0.43 MB), 16-bit depth 1.2 ms, float depth 3 ms.
"""

import cv2
import numpy as np

try:
    from compression import zstd  # Python 3.14
except ImportError:
    from backports import zstd

LEVEL = 1
PLANES = "planes.zstd"  # (G, R-G, B-G), each minus its left neighbour, modulo 256
DEPTH_FLOAT = "f32.zstd"  # little-endian float32, byte planes
DEPTH_STEPS = {"u16/1000.zstd": 1000, "u16/5000.zstd": 5000}  # 16-bit counts of 1/1000 m (16UC1) or 1/5000 m (TUM)
MAGIC = {"jpeg": b"\xff\xd8\xff", "png": b"\x89PNG\r\n\x1a\n"}


def image_kind(encoded):
    """"jpeg" or "png" by the first bytes of `encoded`; ValueError for anything else."""
    for name, magic in MAGIC.items():
        if bytes(encoded[:len(magic)]) == magic:
            return name
    raise ValueError("encoded image is neither JPEG nor PNG")


def encode_image(image):
    """(height, width, 3) uint8 RGB -> (bytes, kind)."""
    planes = np.empty((3,) + image.shape[:2], np.uint8)
    planes[0] = image[..., 1]
    np.subtract(image[..., 0], planes[0], out=planes[1])
    np.subtract(image[..., 2], planes[0], out=planes[2])
    differences = planes.copy()
    differences[:, :, 1:] -= planes[:, :, :-1]
    return zstd.compress(differences, LEVEL), PLANES


def decode_image(data, kind, width, height):
    """Bytes of :func:`encode_image`, or JPEG or PNG -> (height, width, 3) uint8 RGB. ValueError when they do not decode to that size."""
    if kind != PLANES:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION) if len(data) else None
        if image is None:
            raise ValueError(f"{kind or 'encoded'} image cannot be decoded")
        if image.shape[:2] != (height, width):
            raise ValueError(f"{kind} image is {image.shape[1]}x{image.shape[0]}, its camera {width}x{height}")
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    planes = np.cumsum(_unpack(data, np.uint8, (3, height, width)), axis=2, dtype=np.uint8)
    image = np.empty((height, width, 3), np.uint8)
    image[..., 1] = planes[0]
    np.add(planes[1], planes[0], out=image[..., 0])
    np.add(planes[2], planes[0], out=image[..., 2])
    return image


def encode_depth(depth):
    """(height, width) float32 metres -> (bytes, kind); 16 bits where those give back exactly the same floats."""
    for kind, per_metre in DEPTH_STEPS.items():
        counts = np.rint(depth * np.float32(per_metre))
        if counts.max(initial=0) <= 65535 and counts.min(initial=0) >= 0:
            counts = counts.astype("<u2")
            if np.array_equal(counts.astype(np.float32) / np.float32(per_metre), depth):
                return zstd.compress(counts, LEVEL), kind
    octets = np.ascontiguousarray(depth, "<f4").view(np.uint8).reshape(-1, 4)
    return zstd.compress(np.ascontiguousarray(octets.T), LEVEL), DEPTH_FLOAT


def decode_depth(data, kind, width, height):
    """Bytes of :func:`encode_depth` -> (height, width) float32 metres."""
    if kind in DEPTH_STEPS:
        return _unpack(data, "<u2", (height, width)).astype(np.float32) / np.float32(DEPTH_STEPS[kind])
    if kind != DEPTH_FLOAT:
        raise ValueError(f"depth is coded as '{kind}', which this version does not read")
    octets = _unpack(data, np.uint8, (4, height * width))
    return np.ascontiguousarray(octets.T).view("<f4").reshape(height, width).astype(np.float32, copy=False)


def _unpack(data, dtype, shape):
    try:
        flat = np.frombuffer(zstd.decompress(data), dtype)
    except zstd.ZstdError as error:
        raise ValueError(f"stored image is damaged: {error}") from error
    if flat.size != np.prod(shape):
        raise ValueError(f"stored image holds {flat.size} values, {np.prod(shape)} expected")
    return flat.reshape(shape)
