"""Files that a failing disk left, or someone who means harm."""


def damage(path, rng):
    """Cut a file, or flip bits in it, or overwrite a stretch; near the front more often, where
    headers are.
    """
    data = bytearray(path.read_bytes())
    kind, span = rng.randrange(4), rng.choice((64, 1024, len(data)))
    if kind == 0:
        data = data[: rng.randrange(len(data))]
    elif kind == 1:
        for _ in range(rng.choice((1, 1, 8))):
            data[rng.randrange(min(span, len(data)))] ^= 1 << rng.randrange(8)
    elif kind == 2:
        at = rng.randrange(min(span, len(data)))
        data[at : at + 8] = rng.choice((b"\xff" * 8, bytes(8), rng.randbytes(8)))
    else:
        at = rng.randrange(len(data))
        data[at:at] = rng.randbytes(rng.randrange(1, 64))
    path.write_bytes(bytes(data))
