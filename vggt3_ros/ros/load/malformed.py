"""Malformed messages as sent by broken or hostile publishers: extreme values in any field,
decompression bombs, noise.
"""

import math
import struct
import zlib

from rclpy.serialization import serialize_message

# kind: (signed, bits)
INTEGERS = {
    "uint8": (0, 8),
    "uint16": (0, 16),
    "uint32": (0, 32),
    "uint64": (0, 64),
    "int32": (1, 32),
    "int64": (1, 64),
}
NUMBERS = (math.nan, math.inf, -math.inf, 0.0, -0.0, 1e308, -1e308, 5e-324, -1.0, 1e9, 1e-9)
TEXTS = (
    "",
    "odom",
    "map",
    "rgb8",
    "mono16",
    "32FC1",
    "16UC1",
    "nv12",
    "bayer_rggb8",
    "jpeg",
    "16UC1; compressedDepth png",
    "equidistant",
    "rational_polynomial",
    "plumb_bob",
    "../../etc/passwd",
    "/etc",
    "a\0b",
    "line\nbreak \x1b[31m",
    "\u202e",
    "x" * 5000,
)


def spoil(message, random):
    """Set a random field of a message to an extreme value and return its name. random: a
    random.Random.
    """
    names, owner = [], message
    while True:
        name, kind = random.choice(sorted(owner.get_fields_and_field_types().items()))
        names.append(name)
        value = getattr(owner, name)
        if hasattr(value, "get_fields_and_field_types"):
            owner = value
        elif kind.startswith("sequence<") and "/" in kind:
            if not len(value):
                return ".".join(names)
            owner = random.choice(value)
        else:
            _set(owner, name, kind, value, random)
            return ".".join(names)


def _set(owner, name, kind, value, random):
    if kind in INTEGERS:
        signed, bits = INTEGERS[kind]
        low, high = -signed << bits - 1, (1 << bits - signed) - 1
        setattr(
            owner,
            name,
            random.choice(
                (
                    low,
                    0,
                    1,
                    2,
                    7,
                    63,
                    65,
                    high - 1,
                    high,
                    random.randint(low, high),
                    min(value + 1, high),
                )
            ),
        )
    elif kind in ("double", "float"):
        setattr(
            owner, name, random.choice(NUMBERS[:5] + NUMBERS[7:] if kind == "float" else NUMBERS)
        )
    elif kind == "boolean":
        setattr(owner, name, not value)
    elif kind == "string":
        setattr(owner, name, random.choice(TEXTS))
    elif kind == "sequence<uint8>":
        setattr(owner, name, _octets(bytes(value), random))
    elif kind == "sequence<double>":
        setattr(
            owner,
            name,
            random.choice(([], [0.0] * 5000, [*value, 1.0], [*value[1:], random.choice(NUMBERS)])),
        )
    elif kind.startswith("double["):
        value[random.randrange(len(value))] = random.choice(NUMBERS)
    else:
        raise TypeError(f"no malformed value is defined for {name} of type {kind}")


def _octets(data, random):
    """Return the data truncated, extended, empty, with bits flipped, or as noise."""
    at = random.randrange(len(data) + 1)
    flipped = bytearray(data)
    for _ in range(min(8, len(data))):
        flipped[random.randrange(len(data))] ^= 1 << random.randrange(8)
    random_bytes = random.randbytes(min(len(data), 4096))
    return random.choice(
        (b"", data[:at], data + b"\0", bytes(flipped), random_bytes, b"\xff\xd8\xff" + data[:64])
    )


def noise(message, random):
    """Serialize a message and truncate or alter it, like a publisher of another version, or a
    malicious one.
    """
    data = bytearray(serialize_message(message))
    if random.random() < 0.5:
        return bytes(data[: random.randrange(len(data))])
    for _ in range(random.randint(1, 16)):
        data[random.randrange(min(len(data), 600))] = random.randrange(256)
    return bytes(data)


def png_bomb(width, height, bits=8, color=2):
    """Return a PNG of a few kilobytes that declares width x height pixels, and contains up to 64
    rows of zeros.
    """
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[color]
    row = b"\0" * (1 + width * channels * bits // 8)
    pack = zlib.compressobj(9)
    body = b"".join(pack.compress(row) for _ in range(min(height, 64))) + pack.flush()
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)),
        (b"IDAT", body),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def jpeg_bomb(width, height, jpeg):
    """Return `jpeg` (bytes) with another size in its start of frame."""
    at = next(
        at
        for at in range(2, len(jpeg) - 9)
        if jpeg[at] == 0xFF and jpeg[at + 1] in (0xC0, 0xC1, 0xC2)
    )
    return jpeg[: at + 5] + struct.pack(">HH", height, width) + jpeg[at + 9 :]
