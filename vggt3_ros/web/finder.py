"""Where was this file's image taken? The scene memory and networks are loaded when the first one
comes.
"""

import logging
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from vggt3_ros.config import BackendConfig
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.messages.images import decode_16_bits, has_16_bits
from vggt3_ros.messages.levels import IMAGE_BITS, Levels
from vggt3_ros.store.codec import decode_encoded, encoded_size
from vggt3_ros.store.keyframes import KeyframeStore

if TYPE_CHECKING:  # torch comes with the first image
    from vggt3_ros.features.frame import FrameSource
    from vggt3_ros.memory.localizer import Localization
    from vggt3_ros.memory.scenes import Scene

_log = logging.getLogger(__name__)
MAX_BYTES = 32 * 2**20  # of an uploaded file
MAX_PIXELS = 2**24  # of its image: 50 MB once it is decoded
ASPECT = 0.01  # relative difference of two aspect ratios that are taken to be one


@dataclass(frozen=True, eq=False)
class Found:
    """image (h, w, 3) uint8 RGB as `camera` saw it, and the Localization."""

    image: np.ndarray
    camera: Camera
    localization: "Localization"


class Finder:
    """Localizes images in the newest snapshot of the store in `folder`, read only, one at a time.

    camera: of the images, None: the map's own.
    """

    def __init__(
        self, folder: Path | str, config: BackendConfig, camera: Camera | None = None
    ) -> None:
        self._folder, self._config, self._camera = Path(folder), config, camera
        self._lock = threading.Lock()
        self._tools: _Tools | None = None
        self._scene: Scene | None = None
        self._name: object = None  # of the snapshot that _scene is of

    def __call__(self, data: bytes) -> Found:
        """The bytes of a JPEG or PNG file -> Found. ValueError where it cannot be used: its text
        says why.
        """
        with self._lock, KeyframeStore(self._folder, read_only=True) as store:
            cameras = [self._camera] if self._camera else _cameras(store)
            camera = matching(encoded_size_checked(data), cameras)
            image = read(data, camera, Levels.noted(store.get_note(IMAGE_BITS)))
            if self._tools is None:
                _log.info("loading the networks that localize")
                self._tools = _Tools(self._config)
            scene = self._current(store, self._tools)
            return Found(image, camera, self._tools.localizer.localize(scene, image, camera))

    def _current(self, store: KeyframeStore, tools: "_Tools") -> "Scene | None":
        """The newest Scene; its frames are read from `store`, which is open for this image."""
        from vggt3_ros.features.frame import FrameSource

        frames = (
            FrameSource(store, tools.encoder, self._config.resources.frame_cache_mb)
            if store.has_images
            else None
        )
        name = [
            (path.name, path.stat().st_mtime_ns)
            for path in sorted(store.snapshots.glob("[0-9]" * 6))[-1:]
        ]
        if name != self._name:
            self._scene, self._name = tools.scene(store, frames), name
        return None if self._scene is None else replace(self._scene, frame=frames)


class _Tools:
    """What localizing needs, whatever the map: encoder, matcher, localizer."""

    def __init__(self, config: BackendConfig) -> None:
        from vggt3_ros.features.matching import Matcher
        from vggt3_ros.features.xfeat import XFeatEncoder
        from vggt3_ros.memory.localizer import Localizer
        from vggt3_ros.system.device import device_named

        self._config, self._device = config, device_named(config.device)
        self.encoder = XFeatEncoder(config.features, self._device)
        self.localizer = Localizer(config.localizer, self.encoder, Matcher(self._device))

    def scene(self, store: KeyframeStore, frames: "FrameSource") -> "Scene | None":
        from vggt3_ros.memory.keeper import MemoryKeeper
        from vggt3_ros.memory.scenes import Scenes

        keeper = MemoryKeeper(frames, self._config, self._device)
        scene: Scene | None = Scenes(store, frames, keeper.load, keep=1).current
        return scene


def encoded_size_checked(data: bytes) -> tuple[int, int]:
    """(width, height) that a file announces; nothing of it is decoded. ValueError where it is too
    large, or no JPEG or PNG.
    """
    if len(data) > MAX_BYTES:
        raise ValueError(
            f"the file has {len(data) / 2**20:.0f} MB; at most {MAX_BYTES >> 20} MB are taken"
        )
    try:
        width, height = encoded_size(data)
    except ValueError as error:
        raise ValueError(f"{error}: send a JPEG or PNG file") from error
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise ValueError(
            f"the image is {width}x{height}; at most {MAX_PIXELS / 1e6:.0f} million pixels are taken"
        )
    return width, height


def matching(size: tuple[int, int], cameras: list[Camera]) -> Camera:
    """The camera that takes images of this size, or of its aspect ratio: then for that size.
    ValueError where there is none.
    """
    width, height = size
    for camera in cameras:
        if (camera.width, camera.height) == size:
            return camera
    for camera in cameras:
        if abs(width * camera.height / (height * camera.width) - 1) < ASPECT:
            scaled: Camera = camera.scaled(width, height)
            return scaled
    known = ", ".join(sorted({f"{c.width}x{c.height}" for c in cameras})) or "none"
    raise ValueError(
        f"the image is {width}x{height}, the cameras that are known: {known}; send an image of the same "
        "camera, whole, or start the page with --camera FILE"
    )


def read(data: bytes, camera: Camera, levels: Levels) -> np.ndarray:
    """A JPEG or PNG file of the camera's size -> (h, w, 3) uint8 RGB."""
    image: np.ndarray
    if has_16_bits(data):
        to_8_bits = lambda pixels: levels.to_8_bits(pixels, grow=False)
        image = decode_16_bits(data, camera.width, camera.height, to_8_bits)
    else:
        image = decode_encoded(data, camera.width, camera.height)
    return image


def small(image: np.ndarray, width: int) -> np.ndarray:
    """An image (h, w, 3) at most `width` pixels wide."""
    if image.shape[1] <= width:
        return image
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))


def _cameras(store: KeyframeStore) -> list[Camera]:
    """The cameras of a store, that of the newest keyframe first."""
    return list(dict.fromkeys(store.camera(i) for i in reversed(store.ids())))
