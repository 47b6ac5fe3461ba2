"""A keyframe as the stages use it: features and their depth, encoded once and cached in the
store.
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import cv2
import numpy as np
import safetensors.numpy

from vggt3_ros.features.xfeat import VERSION, Features, XFeatEncoder
from vggt3_ros.geometry.camera import Camera, undistort
from vggt3_ros.geometry.sampled_depth import sample_depth
from vggt3_ros.store.arrays import to_bytes
from vggt3_ros.store.estimated_depth import EstimatedDepth
from vggt3_ros.store.keyframe import Keyframe
from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.system.bounded_cache import BoundedCache

_log = logging.getLogger(__name__)
CACHE_NAME = "frame"
# relative change of depth within 3x3 pixels above which a cell straddles an edge
CELL_EDGE = 0.06

Over = Callable[..., Iterable[Any]]  # map, or the map of a thread pool (threads.pool)
Edition = tuple[int, int]  # how often clear() was called, and estimate() for one keyframe


@dataclass(frozen=True, eq=False)
class Frame:
    """One encoded keyframe.

    camera: without distortion. gray (height, width) uint8: the undistorted image. keypoint_depth
    (K,) and cell_depth (h, w): float32 metres along z at the keypoints and at the centres of the
    dense cells, 0 = unknown. estimated: the depth is an estimate; no sensor measured it.
    """

    id: int
    camera: Camera
    gray: np.ndarray
    features: Features
    keypoint_depth: np.ndarray
    cell_depth: np.ndarray
    estimated: bool = False

    @property
    def has_depth(self) -> bool:
        return bool(self.keypoint_depth.any() or self.cell_depth.any())

    @property
    def nbytes(self) -> int:
        arrays = [getattr(self.features, f.name) for f in fields(self.features)] + [
            self.gray,
            self.keypoint_depth,
            self.cell_depth,
        ]
        return sum(a.nbytes for a in arrays if isinstance(a, np.ndarray))


def encode_image(
    image: np.ndarray, camera: Camera, encoder: XFeatEncoder, keyframe_id: int = -1
) -> Frame:
    """Undistort and encode an image (height, width, 3) uint8 RGB of `camera`. The Frame has no
    depth.
    """
    image = undistort(image, camera)
    return _frame(image, camera, encoder.encode(image), keyframe_id)


def encode_frame(keyframe: Keyframe, encoder: XFeatEncoder) -> Frame:
    """Undistort and encode a keyframe, and sample its depth at the features."""
    image = undistort(keyframe.image, keyframe.camera)
    return _with_measured(keyframe, image, encoder.encode(image))


def encode_frames(
    keyframes: Sequence[Keyframe], encoder: XFeatEncoder, over: Over = map
) -> list[Frame]:
    """Encode keyframes as :func:`encode_frame` does, images of one size in one batch.

    over: map, or that of threads.pool, for the work on single images.
    """
    images = list(over(lambda keyframe: undistort(keyframe.image, keyframe.camera), keyframes))
    sizes: dict[tuple[int, ...], list[int]] = {}
    features: list[Features | None] = [None] * len(images)
    for k, image in enumerate(images):
        sizes.setdefault(image.shape, []).append(k)
    for members in sizes.values():
        for k, found in zip(members, encoder.encode_many([images[k] for k in members])):
            features[k] = found
    return list(over(_with_measured, keyframes, images, features))


def _frame(image: np.ndarray, camera: Camera, features: Features, keyframe_id: int) -> Frame:
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return Frame(
        keyframe_id,
        camera.undistorted(),
        gray,
        features,
        np.zeros(len(features.keypoints), np.float32),
        np.zeros(features.reliability.shape, np.float32),
    )


def _with_measured(keyframe: Keyframe, image: np.ndarray, features: Features) -> Frame:
    frame = _frame(image, keyframe.camera, features, keyframe.id)
    if keyframe.depth is None:
        return frame
    return with_depth(frame, undistort(keyframe.depth, keyframe.camera, nearest=True))


def with_depth(frame: Frame, depth: np.ndarray) -> Frame:
    """Return the Frame with `depth`, (height, width) metres along z of its undistorted image,
    sampled at its features.
    """
    centres = frame.features.cell_centres()
    keypoint_depth = sample_depth(depth, frame.features.keypoints).astype(np.float32)
    cell_depth = (
        sample_depth(depth, centres.reshape(-1, 2), CELL_EDGE)
        .astype(np.float32)
        .reshape(centres.shape[:2])
    )
    return replace(frame, keypoint_depth=keypoint_depth, cell_depth=cell_depth)


class FrameSource:
    """Look frames up by keyframe id: `source(id)` takes the frame from memory, else from the
    store's cache, else encodes the keyframe. Thread-safe.

    limit_mb: size of the decoded frames held in memory. A frame without measured depth has the
    depth estimated for its keyframe (EstimatedDepth), if any. `touched(id)` is called for every id
    that is looked up.
    """

    def __init__(self, store: KeyframeStore, encoder: XFeatEncoder, limit_mb: int) -> None:
        self.store, self.encoder, self.limit = store, encoder, limit_mb * 2**20
        self.estimated = EstimatedDepth(store)
        self.touched: Callable[[int], object] = lambda keyframe_id: None
        # ids of keyframes with a new estimate, which map and memory have to take in; the memory,
        # which is updated last, clears the set
        self.renewed: set[int] = set()
        self.version = f"{VERSION}/{encoder.config}"
        self._frames: BoundedCache[int, Frame] = BoundedCache(self.limit)
        self._lock = threading.Lock()
        # A frame that a thread began to read before either of these changed is not kept.
        self._edition, self._estimates = 0, Counter[int]()

    def __call__(self, keyframe_id: int) -> Frame:
        self.touched(keyframe_id)
        with self._lock:
            frame = self._frames.get(keyframe_id)
            if frame is not None:
                return frame
        edition = self._editions([keyframe_id])
        blob = self.store.get_cache(keyframe_id, CACHE_NAME, self.version)
        frame = (
            None
            if blob is None
            else _unpack(keyframe_id, self.store.camera(keyframe_id).undistorted(), blob)
        )
        if frame is None:
            frame = self._cached(encode_frame(self.store.get(keyframe_id), self.encoder))
        return self._held(frame, edition[keyframe_id])

    def _editions(self, ids: Iterable[int]) -> dict[int, Edition]:
        """Return, by id, a value that changes when frames read before it are obsolete."""
        with self._lock:
            return {i: (self._edition, self._estimates[i]) for i in ids}

    def _cached(self, frame: Frame) -> Frame:
        if not self.store.read_only:
            self.store.put_cache(frame.id, CACHE_NAME, self.version, _pack(frame))
        return frame

    def _held(self, frame: Frame, edition: Edition) -> Frame:
        """Complete a Frame without depth by the estimate for it, keep it in memory unless its
        edition is obsolete, and return it.
        """
        if not frame.has_depth:
            depth = self.estimated.at_size(frame.id, frame.camera.width, frame.camera.height)
            frame = frame if depth is None else replace(with_depth(frame, depth), estimated=True)
        with self._lock:
            if edition == (self._edition, self._estimates[frame.id]):
                self._frames.put(frame.id, frame, frame.nbytes)
        return frame

    def encode(self, ids: Sequence[int], over: Over) -> None:
        """Encode keyframes that are :meth:`missing`, in one batch, and keep them as looking each
        one up would.

        over: as for encode_frames. Raises DamagedKeyframe, with nothing kept, when one of them
        cannot be read.
        """
        for keyframe_id in ids:
            self.touched(keyframe_id)
        editions = self._editions(ids)
        for frame in encode_frames(list(over(self.store.get, ids)), self.encoder, over):
            self._held(self._cached(frame), editions[frame.id])

    def missing(self, ids: Iterable[int]) -> list[int]:
        """Return those of the keyframe ids that still have to be encoded."""
        cached = self.store.cached(CACHE_NAME, self.version)
        return [i for i in ids if i not in cached]

    def estimate(
        self, keyframe_id: int, depth: np.ndarray, sure: np.ndarray | None = None
    ) -> None:
        """Give a keyframe without measured depth an estimate, which its frame has from now on.

        depth (h, w): metres along z, at any resolution. sure (h, w): mask of the pixels that may
        enter the map, all by default.
        """
        self.estimated.put(keyframe_id, depth, sure)
        self.renewed.add(keyframe_id)
        with self._lock:
            self._estimates[keyframe_id] += 1
            self._frames.pop(keyframe_id)

    def clear(self) -> None:
        """Forget all frames: from now on the ids name other keyframes."""
        with self._lock:
            self._edition += 1
            self._estimates.clear()
            self._frames.clear()


def _pack(frame: Frame) -> bytes:
    depth = to_bytes(
        {
            "gray": frame.gray,
            "keypoint_depth": frame.keypoint_depth,
            "cell_depth": frame.cell_depth,
        }
    )
    return len(depth).to_bytes(8, "little") + depth + frame.features.to_bytes()


def _unpack(keyframe_id: int, camera: Camera, blob: bytes) -> Frame | None:
    """Invert :func:`_pack`. Return None when the bytes are damaged: they can be computed again."""
    try:
        size = int.from_bytes(blob[:8], "little")
        depth, features = (
            safetensors.numpy.load(blob[8 : 8 + size]),
            Features.from_bytes(blob[8 + size :]),
        )
        frame = Frame(
            keyframe_id,
            camera,
            depth["gray"],
            features,
            depth["keypoint_depth"],
            depth["cell_depth"],
        )
        if not _plausible(frame):
            raise ValueError("its arrays have wrong shapes, types or values")
        return frame
    except (
        safetensors.SafetensorError,
        KeyError,
        TypeError,
        ValueError,
        OverflowError,
        MemoryError,
    ) as error:
        _log.warning(
            "the cached features of keyframe %d are damaged and are computed again: %s",
            keyframe_id,
            error,
        )
        return None


def _plausible(frame: Frame) -> bool:
    """Tell whether the arrays of a Frame are as Frame and Features document them."""
    features, count, grid = (
        frame.features,
        len(frame.features.keypoints),
        frame.features.reliability.shape,
    )
    shapes = [
        (frame.gray.shape, (frame.camera.height, frame.camera.width)),
        ((features.width, features.height), frame.gray.shape[::-1]),
        (features.keypoints.shape, (count, 2)),
        (features.scores.shape, (count,)),
        (features.descriptors.shape, (count, 64)),
        (features.dense.shape, (64, *grid)),
        (frame.keypoint_depth.shape, (count,)),
        (frame.cell_depth.shape, grid),
    ]
    floats = (
        features.keypoints,
        features.scores,
        features.descriptors,
        features.reliability,
        frame.keypoint_depth,
        frame.cell_depth,
    )
    return (
        len(grid) == 2
        and all(have == want for have, want in shapes)
        and frame.gray.dtype == np.uint8
        and all(array.dtype.kind == "f" and bool(np.isfinite(array).all()) for array in floats)
    )
