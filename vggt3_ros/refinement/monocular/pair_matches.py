"""Matches between pairs of keyframes, computed once: all are in the store, the most recently used
in memory too.
"""

import zlib
from collections.abc import Callable

import numpy as np
import poselib
import safetensors.numpy
from safetensors import SafetensorError

from vggt3_ros.features.frame import Frame
from vggt3_ros.features.matching import mutual_nearest
from vggt3_ros.store.arrays import to_bytes
from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.system.bounded_cache import BoundedCache

NAME, VERSION = "matches", "1"
EPIPOLAR_PX = 1.5
LEAST_MATCHES = 20
OVERHEAD = 200  # bytes of a small array besides its data

Known = dict[str, np.ndarray]  # "target/fingerprint" -> (M, 2) uint16


class PairMatches:
    """Match pairs of keyframes. frames: FrameSource, or any function from an id to a Frame; then
    nothing is kept in a store. limit: bytes held in memory.
    """

    def __init__(self, frames: Callable[[int], Frame], limit: int) -> None:
        self.frames = frames
        self._held: BoundedCache[int, Known] = BoundedCache(limit)
        self._store: KeyframeStore | None = getattr(frames, "store", None)
        self._version = f"{VERSION}/{getattr(frames, 'version', '')}"

    @property
    def nbytes(self) -> int:
        """Bytes held in memory."""
        return self._held.nbytes

    def __call__(self, source: int, target: int) -> np.ndarray:
        """Return the matches of two keyframes, given by id: (M, 2) uint16 keypoint indices that
        agree on an epipolar geometry; none when there are fewer than LEAST_MATCHES.
        """
        known = self._held.get(source)
        if known is None:
            known = self._read(source)
            self._hold(source, known)
        key = f"{target}/{_fingerprint(self.frames(target))}"
        if key not in known:
            known[key] = self._matched(source, target)
            self._hold(source, known)
            if self._store is not None and not self._store.read_only:
                self._store.put_cache(source, NAME, self._version, to_bytes(known))
        return known[key]

    def _hold(self, source: int, known: Known) -> None:
        self._held.put(
            source, known, sum(matches.nbytes + OVERHEAD for matches in known.values()) + OVERHEAD
        )

    def _read(self, source: int) -> Known:
        """Read a keyframe's matches from the store; none when they are damaged, since they can be
        computed again.
        """
        blob = None if self._store is None else self._store.get_cache(source, NAME, self._version)
        try:
            found = (
                {}
                if blob is None
                else {key: matches.copy() for key, matches in safetensors.numpy.load(blob).items()}
            )
            most = len(self.frames(source).features.keypoints) if found else 0
            usable = all(
                v.dtype == np.uint16 and v.ndim == 2 and v.shape[1] == 2 and (v[:, 0] < most).all()
                for v in found.values()
            )
            return found if usable else {}
        except (SafetensorError, ValueError):
            return {}

    def _matched(self, source: int, target: int) -> np.ndarray:
        first, second = self.frames(source), self.frames(target)
        matches = mutual_nearest(first.features, second.features)[0]
        if len(matches) >= LEAST_MATCHES:
            pixels = (
                first.features.keypoints[matches[:, 0]],
                second.features.keypoints[matches[:, 1]],
            )
            _, found = poselib.estimate_relative_pose(
                *(p.astype(np.float64) for p in pixels),
                first.camera.pinhole,
                second.camera.pinhole,
                {"max_epipolar_error": EPIPOLAR_PX, "max_iterations": 500, "seed": 0},
                {},
            )
            matches = matches[np.asarray(found["inliers"], bool)]
        return (matches if len(matches) >= LEAST_MATCHES else matches[:0]).astype(np.uint16)


def _fingerprint(frame: Frame) -> str:
    """Return a checksum of a Frame's keypoints: in a merged map the same id may name another
    keyframe.
    """
    return f"{zlib.crc32(np.ascontiguousarray(frame.features.keypoints).tobytes()):08x}{len(frame.features.keypoints):04x}"
