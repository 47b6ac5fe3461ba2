"""Which images are matched, for all contenders that match images: each keyframe with those before
it and with those that look most like it, as COLMAP recommends for video with loops.

What looks alike is the same for all and costs them nothing: it comes with the Given.
"""

from vggt3_ros.benchmarks.peers.given import Given, Shot

OVERLAP = 10  # COLMAP's SequentialPairingOptions.overlap
ALIKE = 10


def mapping_pairs(given: Given) -> list[tuple[Shot, Shot]]:
    """Pairs of keyframes, each once."""
    shots, pairs = given.shots, set()
    for k in range(len(shots)):
        near = range(max(0, k - OVERLAP), k)
        for other in (*near, *given.similar[k][:ALIKE]):
            if other != k:
                pairs.add((min(k, other), max(k, other)))
    return [(shots[a], shots[b]) for a, b in sorted(pairs)]


def query_pairs(given: Given) -> list[tuple[Shot, Shot]]:
    """Pairs of a query and one of the keyframes that look most like it."""
    shots = given.shots
    return [
        (query, shots[k])
        for query, similar in zip(given.queries, given.similar_to_query)
        for k in similar[:ALIKE]
    ]
