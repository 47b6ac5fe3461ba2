"""Camera images to network input: longer side 518 pixels, both sides multiples of 14, values in
0..1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Resizing:
    """Mapping between pixels of the original image and of the network's image; each axis has its
    own scale.
    """

    original: tuple[int, int]  # height, width
    resized: tuple[int, int]

    def intrinsics_to_resized(self, K: np.ndarray) -> np.ndarray:
        """Convert camera matrices [..., 3, 3] of the original image to the network's image. Pixel
        centres are at integers in both.
        """
        return self._scaled(
            K, self.resized[1] / self.original[1], self.resized[0] / self.original[0]
        )

    def intrinsics_to_original(self, K: np.ndarray) -> np.ndarray:
        """Invert ``intrinsics_to_resized``."""
        return self._scaled(
            K, self.original[1] / self.resized[1], self.original[0] / self.resized[0]
        )

    @staticmethod
    def _scaled(K: np.ndarray, x: float, y: float) -> np.ndarray:
        # A resize maps image edges onto each other. They lie half a pixel outside the outermost
        # pixel centres.
        scaling = np.array([[x, 0.0, (x - 1) / 2], [0.0, y, (y - 1) / 2], [0.0, 0.0, 1.0]])
        return np.asarray(scaling @ np.asarray(K, dtype=float))


def network_size(
    height: int, width: int, longer_side: int = 518, multiple: int = 14
) -> tuple[int, int]:
    """Return (height, width) with the longer side ``longer_side`` and the shorter one the multiple
    of ``multiple`` nearest to the original aspect.

    Raise ValueError if a size is not positive, or ``longer_side`` is not a multiple.
    """
    if height <= 0 or width <= 0 or longer_side < multiple or longer_side % multiple:
        raise ValueError(
            f"no network size for an image {height}x{width} with longer side {longer_side}"
        )
    scale = longer_side / max(height, width)
    rows, columns = (
        max(multiple, round(side * scale / multiple) * multiple) for side in (height, width)
    )
    return rows, columns


def prepare_images(
    images: Sequence[np.ndarray], longer_side: int = 518
) -> tuple[Tensor, Resizing]:
    """Resize RGB uint8 images [H, W, 3] of one size to a uint8 tensor [N, 3, h, w] for map() or
    query(). Return it with the resizing.

    Bicubic with antialiasing, as in the training of the released network. uint8 is kept: the
    network converts it chunk by chunk. Raise ValueError on an empty sequence, another dtype, or
    images of different sizes.
    """
    if len(images) == 0:
        raise ValueError("no images")
    first = images[0].shape
    original = (first[0], first[1])
    resized = network_size(*original, longer_side)
    prepared = torch.empty(len(images), 3, *resized, dtype=torch.uint8)
    for index, image in enumerate(images):
        if image.dtype != np.uint8 or image.shape != (*original, 3):
            raise ValueError(
                f"image {index} is {image.dtype} {image.shape}, expected uint8 {(*original, 3)}"
            )
        pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
        if original != resized:
            pixels = F.interpolate(pixels.float(), size=resized, mode="bicubic", antialias=True)
            pixels = pixels.round_().clamp_(0, 255).to(torch.uint8)
        prepared[index] = pixels[0]
    return prepared, Resizing(original, resized)
