"""A keyframe as the stages see it: features with their depth, encoded once and cached in the
store.
"""

import logging
import threading
from collections import Counter
from dataclasses import dataclass, fields, replace

import cv2
import numpy as np
import safetensors.numpy

from vggt3_ros.features.xfeat import VERSION, Features
from vggt3_ros.geometry.camera import Camera, undistort
from vggt3_ros.geometry.sampled_depth import sample_depth
from vggt3_ros.store.arrays import to_bytes
from vggt3_ros.store.estimated_depth import EstimatedDepth
from vggt3_ros.system.bounded_cache import BoundedCache

_log = logging.getLogger(__name__)
CACHE_NAME = "frame"
# relative depth change within a cell's 3x3 above which the cell straddles an edge
CELL_EDGE = 0.06


@dataclass(frozen=True, eq=False)
class Frame:
    """One encoded keyframe. camera: without distortion; gray (height, width) uint8 likewise.
    keypoint_depth (K,), cell_depth (h, w): float32 metres along z, 0 = unknown; estimated: no
    sensor measured it.
    """

    id: int
    camera: Camera
    gray: np.ndarray
    features: Features
    keypoint_depth: np.ndarray
    cell_depth: np.ndarray
    estimated: bool = False

    @property
    def has_depth(self):
        return bool(self.keypoint_depth.any() or self.cell_depth.any())

    @property
    def nbytes(self):
        arrays = [getattr(self.features, f.name) for f in fields(self.features)] + [
            self.gray,
            self.keypoint_depth,
            self.cell_depth,
        ]
        return sum(a.nbytes for a in arrays if isinstance(a, np.ndarray))


def encode_image(image, camera, encoder, keyframe_id=-1):
    """(height, width, 3) uint8 RGB as `camera` saw it -> Frame without depth."""
    image = undistort(image, camera)
    return _frame(image, camera, encoder.encode(image), keyframe_id)


def encode_frame(keyframe, encoder):
    """Keyframe -> Frame: undistort, encode, look the depth up."""
    image = undistort(keyframe.image, keyframe.camera)
    return _with_measured(keyframe, image, encoder.encode(image))


def encode_frames(keyframes, encoder, over=map):
    """As :func:`encode_frame` for each of a list of Keyframes, images of one size at once. over:
    map, or that of threads.pool.
    """
    images = list(over(lambda keyframe: undistort(keyframe.image, keyframe.camera), keyframes))
    sizes, features = {}, [None] * len(images)
    for k, image in enumerate(images):
        sizes.setdefault(image.shape, []).append(k)
    for members in sizes.values():
        for k, found in zip(members, encoder.encode_many([images[k] for k in members])):
            features[k] = found
    return list(over(_with_measured, keyframes, images, features))


def _frame(image, camera, features, keyframe_id):
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return Frame(
        keyframe_id,
        camera.undistorted(),
        gray,
        features,
        np.zeros(len(features.keypoints), np.float32),
        np.zeros(features.reliability.shape, np.float32),
    )


def _with_measured(keyframe, image, features):
    frame = _frame(image, keyframe.camera, features, keyframe.id)
    if keyframe.depth is None:
        return frame
    return with_depth(frame, undistort(keyframe.depth, keyframe.camera, nearest=True))


def with_depth(frame, depth):
    """The Frame with depth (height, width) of its undistorted image, metres along z, looked up."""
    centres = frame.features.cell_centres()
    keypoint_depth = sample_depth(depth, frame.features.keypoints).astype(np.float32)
    cell_depth = (
        sample_depth(depth, centres.reshape(-1, 2), CELL_EDGE)
        .astype(np.float32)
        .reshape(centres.shape[:2])
    )
    return replace(frame, keypoint_depth=keypoint_depth, cell_depth=cell_depth)


class FrameSource:
    """frame(id): from memory, else the store's cache, else encoded now. Holds at most `limit_mb`
    of decoded frames. Thread-safe.

    Frames that no sensor gave depth have what is estimated (EstimatedDepth), if anything.
    touched(id) hears of every one asked for.
    """

    def __init__(self, store, encoder, limit_mb):
        self.store, self.encoder, self.limit = store, encoder, limit_mb * 2**20
        self.estimated, self.touched = EstimatedDepth(store), lambda keyframe_id: None
        # keyframes whose estimated depth changed since whoever remembers it looked
        self.renewed = set()
        self.version = f"{VERSION}/{encoder.config}"
        self._frames, self._lock = BoundedCache(self.limit), threading.Lock()
        # what a thread began to read before either changed is not kept
        self._edition, self._estimates = 0, Counter()

    def __call__(self, keyframe_id):
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

    def _editions(self, ids):
        """{id: what changes when a frame read before is none any more}"""
        with self._lock:
            return {i: (self._edition, self._estimates[i]) for i in ids}

    def _cached(self, frame):
        if not self.store.read_only:
            self.store.put_cache(frame.id, CACHE_NAME, self.version, _pack(frame))
        return frame

    def _held(self, frame, edition):
        """The Frame, with depth that was estimated for it, in memory from now on, unless its
        edition is over.
        """
        if not frame.has_depth:
            depth = self.estimated.at_size(frame.id, frame.camera.width, frame.camera.height)
            frame = frame if depth is None else replace(with_depth(frame, depth), estimated=True)
        with self._lock:
            if edition == (self._edition, self._estimates[frame.id]):
                self._frames.put(frame.id, frame, frame.nbytes)
        return frame

    def encode(self, ids, over):
        """Encode keyframes that are :meth:`missing`, at once, and keep them as asking for each
        would. over: see encode_frames. Raises DamagedKeyframe, with nothing kept, where one cannot
        be read.
        """
        for keyframe_id in ids:
            self.touched(keyframe_id)
        editions = self._editions(ids)
        for frame in encode_frames(list(over(self.store.get, ids)), self.encoder, over):
            self._held(self._cached(frame), editions[frame.id])

    def missing(self, ids):
        """Those of the keyframe ids that still have to be encoded."""
        cached = self.store.cached(CACHE_NAME, self.version)
        return [i for i in ids if i not in cached]

    def estimate(self, keyframe_id, depth, sure=None):
        """Give a keyframe without measured depth an estimate (h, w), metres, at any resolution;
        from now on its frame has it.

        sure: mask (h, w) of what may be mapped, all by default.
        """
        self.estimated.put(keyframe_id, depth, sure)
        self.renewed.add(keyframe_id)
        with self._lock:
            self._estimates[keyframe_id] += 1
            self._frames.pop(keyframe_id)

    def clear(self):
        """From now on ids name other keyframes."""
        with self._lock:
            self._edition += 1
            self._estimates.clear()
            self._frames.clear()


def _pack(frame):
    depth = to_bytes(
        {
            "gray": frame.gray,
            "keypoint_depth": frame.keypoint_depth,
            "cell_depth": frame.cell_depth,
        }
    )
    return len(depth).to_bytes(8, "little") + depth + frame.features.to_bytes()


def _unpack(keyframe_id, camera, blob):
    """Inverse of :func:`_pack`; None where the bytes are damaged: they can be made again."""
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
            raise ValueError("sizes or numbers make no sense")
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
            "the features of keyframe %d kept in the store are damaged and made anew: %s",
            keyframe_id,
            error,
        )
        return None


def _plausible(frame):
    """Whether the arrays of a Frame are what Frame and Features say."""
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
