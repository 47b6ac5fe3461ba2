"""Plane sweeps of keyframes and what they were made against: all of them in the store, those used
last in memory too.
"""

from dataclasses import dataclass

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from vggt3_ros.geometry import se3
from vggt3_ros.refinement.monocular.plane_sweep import InverseDepth
from vggt3_ros.store.arrays import to_bytes
from vggt3_ros.system.bounded_cache import BoundedCache

NAME, VERSION = "sweep", "1"
# of the baseline; a neighbour that moved by more is swept against again
MOVED, TURNED = 0.02, np.radians(0.1)
# a sweep is kept in 3 bytes a pixel: a hundredth of a pixel of parallax
INVERSE_STEPS, SIMILARITY_STEPS = 65535, 127


@dataclass(frozen=True, eq=False)
class Neighbourhood:
    """What one keyframe is swept against: ids, T_reference_neighbour (V, 4, 4), the depth range
    its tracks span.
    """

    ids: tuple
    motions: np.ndarray
    near: float
    far: float

    def scale_from(self, other):
        """By how much this is larger than `other`, whose sweep then serves here too; None when
        anything but the scale changed.
        """
        if other is None or self.ids != other.ids:
            return None
        now, before = self.motions[:, :3, 3], other.motions[:, :3, 3]
        scale = (now * before).sum() / (before**2).sum()
        moved = np.linalg.norm(now - scale * before, axis=1) / np.linalg.norm(now, axis=1)
        turned = se3.rotation_angle(se3.inverse(other.motions) @ self.motions)
        return float(scale) if (moved < MOVED).all() and (turned < TURNED).all() else None


class Sweeps:
    """store: KeyframeStore; version: of what the sweeps are made from; limit: bytes in memory. A
    sweep stays with the Neighbourhood that it was made in, so that many small moves add up to a
    new one.
    """

    def __init__(self, store, version, limit):
        self._store, self._version, self._held = store, f"{VERSION}/{version}", BoundedCache(limit)
        self._made_in = {}  # keyframe id -> Neighbourhood: a few hundred bytes each

    @property
    def nbytes(self):
        """What is held in memory."""
        return self._held.nbytes

    def scale(self, keyframe_id, neighbourhood):
        """By how much lengths have grown since the keyframe was swept; None where it has to be
        swept (again).
        """
        if keyframe_id not in self._made_in:
            found = self._read(keyframe_id)
            if found is None:
                return None
            self._made_in[keyframe_id] = found[0]
        return neighbourhood.scale_from(self._made_in[keyframe_id])

    def get(self, keyframe_id, scale=1.0):
        """The keyframe's InverseDepth where lengths have grown by `scale` since; None where there
        is none.
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

    def put(self, keyframe_id, neighbourhood, swept):
        """Keep the InverseDepth of a keyframe and the Neighbourhood that it was made in."""
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
        if self._store.read_only:
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

    def _hold(self, keyframe_id, packed):
        self._held.put(keyframe_id, packed, packed[0].nbytes + packed[1].nbytes)

    def _read(self, keyframe_id):
        """(Neighbourhood, packed arrays), or None; what is damaged in the store is made again."""
        blob = self._store.get_cache(keyframe_id, NAME, self._version)
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


def _plausible(arrays):
    """Whether the arrays of a sweep are what :meth:`Sweeps.put` writes."""
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
