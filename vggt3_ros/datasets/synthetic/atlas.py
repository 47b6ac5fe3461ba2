"""Many small images in one large one, so that the colours of a frame take a few calls of
cv2.remap.
"""

from collections.abc import Sequence

import cv2
import numpy as np

LEVELS = 5  # mip levels, each half the size of the previous one
_GUTTER = 8  # texels replicated around each image, so that coarse levels do not mix neighbours
_ALIGN = 16
_BATCH = 4096


class Atlas:
    """Images (height, width, channels) of one dtype, addressed by number and by u, v in [0, 1].

    Sampling is trilinear over box-filtered mip-maps, which avoids flicker on distant surfaces.
    """

    def __init__(self, images: Sequence[np.ndarray], levels: int = LEVELS) -> None:
        gutter = _GUTTER if levels > 1 else 1
        sizes = np.array([image.shape[:2] for image in images])
        corners, extent = _pack(sizes + 2 * gutter, _ALIGN if levels > 1 else 1)
        sheet = np.zeros(tuple(extent) + images[0].shape[2:], images[0].dtype)
        for image, (y, x) in zip(images, corners):
            padded = cv2.copyMakeBorder(
                image, gutter, gutter, gutter, gutter, cv2.BORDER_REPLICATE
            )
            sheet[y : y + padded.shape[0], x : x + padded.shape[1]] = padded
        self.sheets = [sheet]
        for _ in range(levels - 1):
            height, width = self.sheets[-1].shape[:2]
            self.sheets.append(
                cv2.resize(
                    self.sheets[-1], (width // 2, height // 2), interpolation=cv2.INTER_AREA
                )
            )
        self.sizes = sizes[:, ::-1].astype(np.float32)  # width, height
        self._origin = (corners[:, ::-1] + gutter).astype(np.float32)
        self._coarsest = np.clip(np.log2(sizes.min(axis=1)) - 1, 0, levels - 1).astype(np.float32)

    def sample(
        self, index: np.ndarray, uv: np.ndarray, level: np.ndarray | None = None
    ) -> np.ndarray:
        """Sample the images index (n,) at uv (n, 2). Return (n, channels) float32.

        level: (n,) mip level (0 = full size, +1 = half the size), by default 0.
        """
        position = (
            self._origin[index] + uv * self.sizes[index]
        )  # texel centres are at half-integers
        if level is None or len(self.sheets) == 1:
            return _look_up(self.sheets[0], position - 0.5)
        level = np.clip(level, 0, self._coarsest[index])
        lower = np.minimum(level.astype(np.int64), len(self.sheets) - 2)
        share = (level - lower).astype(np.float32)
        color = np.zeros((len(position),) + self.sheets[0].shape[2:], np.float32)
        for number, sheet in enumerate(self.sheets):
            for weight, base in ((1 - share, number), (share, number - 1)):
                chosen = np.flatnonzero((lower == base) & (weight > 0))
                if len(chosen):
                    color[chosen] += weight[chosen, None] * _look_up(
                        sheet, position[chosen] / 2**number - 0.5
                    )
        return color


def _look_up(sheet: np.ndarray, position: np.ndarray) -> np.ndarray:
    count = len(position)
    rows = -(-count // _BATCH)
    maps = np.zeros((rows * _BATCH, 2), np.float32)
    maps[:count] = position
    found = cv2.remap(
        sheet,
        maps.reshape(rows, _BATCH, 2),
        np.empty(0, np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(found).reshape(rows * _BATCH, -1)[:count].astype(np.float32)


def _pack(sizes: np.ndarray, align: int) -> tuple[np.ndarray, np.ndarray]:
    """Pack images in rows of decreasing height. Return the corners (n, 2) as y, x and the total
    (height, width).
    """
    sizes = -(-sizes // align) * align
    width = int(
        max(2 ** np.ceil(np.log2(np.sqrt(sizes.prod(axis=1).sum() * 1.05))), sizes[:, 1].max())
    )
    corners = np.zeros_like(sizes)
    x = y = row = 0
    for index in np.argsort(-sizes[:, 0], kind="stable"):
        if x + sizes[index, 1] > width:
            x, y, row = 0, y + row, 0
        corners[index] = y, x
        x, row = x + sizes[index, 1], max(row, sizes[index, 0])
    whole = np.array([y + row, width])
    return corners, -(-whole // 16) * 16
