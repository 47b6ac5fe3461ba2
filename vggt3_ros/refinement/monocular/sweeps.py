"""Plane sweeps of keyframes and what they were made against: all are in the store, the most
recently used in memory too.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from vggt3_ros.geometry import se3
from vggt3_ros.refinement.monocular.plane_sweep import InverseDepth
from vggt3_ros.store.arrays import to_bytes
from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.system.bounded_cache import BoundedCache

NAME, VERSION = "sweep", "1"
# share of the baseline, and rad, by which a neighbour may move before a sweep is made again
MOVED, TURNED = 0.02, np.radians(0.1)
# A sweep is stored in 3 bytes per pixel, accurate to a hundredth of a pixel of parallax.
INVERSE_STEPS, SIMILARITY_STEPS = 65535, 127

Packed = tuple[np.ndarray, np.ndarray, np.ndarray]  # inverse, similarity, (low, high, step)


@dataclass(frozen=True, eq=False)
class Neighbourhood:
    """What one keyframe is swept against. ids: of the V neighbours. motions (V, 4, 4):
    T_reference_neighbour. near, far: the depth range of its tracks, metres.
    """

    ids: tuple[int, ...]
    motions: np.ndarray
    near: float
    far: float

    def scale_from(self, other: "Neighbourhood | None") -> float | None:
        """Return the factor by which this is larger than `other`, whose sweep can then be reused;
        None when more than the scale has changed.
        """
        if other is None or self.ids != other.ids:
            return None
        now, before = self.motions[:, :3, 3], other.motions[:, :3, 3]
        scale = (now * before).sum() / (before**2).sum()
        moved = np.linalg.norm(now - scale * before, axis=1) / np.linalg.norm(now, axis=1)
        turned = se3.rotation_angle(se3.inverse(other.motions) @ self.motions)
        return float(scale) if (moved < MOVED).all() and (turned < TURNED).all() else None


class Sweeps:
    """Keep sweeps with the Neighbourhood in which they were made, so that many small motions add
    up to a new sweep.

    version: of what the sweeps are made from. limit: bytes held
    in memory.
    """

    def __init__(self, store: KeyframeStore | None, version: str, limit: int) -> None:
        self._store, self._version = store, f"{VERSION}/{version}"
        self._held: BoundedCache[int, Packed] = BoundedCache(limit)
        self._made_in: dict[int, Neighbourhood] = {}  # by keyframe id, a few hundred bytes each

    @property
    def nbytes(self) -> int:
        """Bytes held in memory."""
        return self._held.nbytes

    def scale(self, keyframe_id: int, neighbourhood: Neighbourhood) -> float | None:
        """Return the factor by which lengths have grown since the keyframe was swept; None when it
        has to be swept, or swept again.
        """
        if keyframe_id not in self._made_in:
            found = self._read(keyframe_id)
            if found is None:
                return None
            self._made_in[keyframe_id] = found[0]
        return neighbourhood.scale_from(self._made_in[keyframe_id])

    def get(self, keyframe_id: int, scale: float = 1.0) -> InverseDepth | None:
        """Return the keyframe's InverseDepth, given that lengths have grown by `scale` since it was
        swept; None when it has not been.
        """
        packed = self._held.get(keyframe_id)
        if packed is None:
            found = self._read(keyframe_id)
            if found is None:
                return None
            packed = found[1]
            self._hold(keyframe_id, packed)
        inverse, similarity, (low, high, step) = packed
        return InverseDepth(
            (low + inverse * ((high - low) / INVERSE_STEPS)).astype(np.float32)
            / np.float32(scale),
            similarity.astype(np.float32) / SIMILARITY_STEPS,
            float(step / scale),
        )

    def put(self, keyframe_id: int, neighbourhood: Neighbourhood, swept: InverseDepth) -> None:
        """Keep the InverseDepth of a keyframe and the Neighbourhood in which it was made."""
        low, high = float(swept.inverse.min()), float(swept.inverse.max())
        inverse = np.rint((swept.inverse - low) * (INVERSE_STEPS / max(high - low, 1e-12))).astype(
            np.uint16
        )
        similarity = np.rint(
            np.clip(np.nan_to_num(swept.similarity), -1, 1) * SIMILARITY_STEPS
        ).astype(np.int8)
        scalars = np.array([low, high, swept.step])
        self._made_in[keyframe_id] = neighbourhood
        self._hold(keyframe_id, (inverse, similarity, scalars))
        if self._store is None or self._store.read_only:
            return
        arrays = {
            "inverse": inverse,
            "similarity": similarity,
            "scalars": scalars,
            "motions": neighbourhood.motions,
            "ids": np.array(neighbourhood.ids, np.int64),
            "range": np.array([neighbourhood.near, neighbourhood.far]),
        }
        self._store.put_cache(keyframe_id, NAME, self._version, to_bytes(arrays))

    def _hold(self, keyframe_id: int, packed: Packed) -> None:
        self._held.put(keyframe_id, packed, packed[0].nbytes + packed[1].nbytes)

    def _read(self, keyframe_id: int) -> tuple[Neighbourhood, Packed] | None:
        """Read a sweep from the store. Return None when there is none or it is damaged, since it
        can be made again.
        """
        blob = (
            None
            if self._store is None
            else self._store.get_cache(keyframe_id, NAME, self._version)
        )
        try:
            arrays = (
                None
                if blob is None
                else {name: array.copy() for name, array in safetensors.numpy.load(blob).items()}
            )
            if arrays is None or not _plausible(arrays):
                return None
            neighbourhood = Neighbourhood(
                tuple(arrays["ids"].tolist()), arrays["motions"], *map(float, arrays["range"])
            )
            return neighbourhood, (arrays["inverse"], arrays["similarity"], arrays["scalars"])
        except (SafetensorError, KeyError, TypeError, ValueError):
            return None


def _plausible(arrays: Mapping[str, np.ndarray]) -> bool:
    """Tell whether the arrays are as :meth:`Sweeps.put` writes them."""
    ids, inverse, scalars = arrays["ids"], arrays["inverse"], arrays["scalars"]
    return (
        inverse.dtype == np.uint16
        and inverse.ndim == 2
        and arrays["similarity"].shape == inverse.shape
        and arrays["similarity"].dtype == np.int8
        and ids.dtype == np.int64
        and ids.ndim == 1
        and len(ids) > 0
        and arrays["motions"].shape == (len(ids), 4, 4)
        and arrays["range"].shape == (2,)
        and scalars.shape == (3,)
        and all(bool(np.isfinite(arrays[name]).all()) for name in ("motions", "range", "scalars"))
        and 0 < scalars[0] <= scalars[1]
        and scalars[2] > 0
    )
