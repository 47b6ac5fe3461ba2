"""Pictures inside the page: JPEG and PNG as data URLs, bounded in number and size."""

import base64
import logging

import cv2
import numpy as np

from vggt3_ros.store.keyframes import DamagedKeyframe, KeyframeStore

SIDE = 320  # pixels, the longer side of a keyframe's picture
MOST, MOST_BYTES = 160, 4_000_000  # keyframes that are shown, and what they take in the page
QUALITY = 75  # of JPEG
_log = logging.getLogger(__name__)


def jpeg(image: np.ndarray, side: int, quality: int = QUALITY) -> str:
    """Return a data URL of an image (height, width, 3) uint8 RGB, its longer side at most `side`
    pixels.
    """
    return _url("jpeg", shrunk(image, side)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])


def png(image: np.ndarray) -> str:
    """Return a data URL of an image (height, width, 4) uint8 RGBA."""
    return _url("png", cv2.cvtColor(image, cv2.COLOR_RGBA2BGRA), [cv2.IMWRITE_PNG_COMPRESSION, 9])


def shrunk(image: np.ndarray, side: int) -> np.ndarray:
    """Return an image with its longer side at most `side` pixels."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return image
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def keyframe_pictures(store: KeyframeStore, ids: list[int]) -> dict[int, str]:
    """Return data URLs of keyframes by id: of the first ones of `ids`, until MOST or MOST_BYTES is
    reached. A keyframe that cannot be read is left out.
    """
    found: dict[int, str] = {}
    size = 0
    for keyframe_id in dict.fromkeys(ids) if store.has_images else ():
        if len(found) == MOST or size >= MOST_BYTES:
            break
        try:
            found[keyframe_id] = jpeg(store.get(keyframe_id).image, SIDE)
        except (DamagedKeyframe, KeyError) as error:
            _log.warning("%s; the report shows it without its picture", error)
            continue
        size += len(found[keyframe_id])
    return found


def _url(kind: str, image: np.ndarray, parameters: list[int]) -> str:
    written, coded = cv2.imencode(f".{kind}", np.ascontiguousarray(image), parameters)
    if not written:
        raise ValueError(f"OpenCV cannot write an image of {image.shape} as {kind}")
    return f"data:image/{kind};base64,{base64.b64encode(coded.tobytes()).decode('ascii')}"
