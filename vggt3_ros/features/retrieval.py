"""Place recognition by VLAD over XFeat descriptors (Jegou et al., CVPR 2010; intra-normalized as
in Arandjelovic and Zisserman, CVPR 2013). It serves until a scene memory exists, and selects among
the memories of a large map.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import safetensors.numpy

from vggt3_ros.features.xfeat import Features
from vggt3_ros.store.arrays import save_arrays

CLUSTERS = 32
MAX_FILE_BYTES = 2**30
TRAINING_DESCRIPTORS = 40_000  # given to k-means
ENOUGH_IMAGES = 256  # a vocabulary learned from this many images is kept for good
COLLECTED_DESCRIPTORS = 160_000  # that the training descriptors are drawn from


@dataclass(frozen=True, eq=False)
class PlaceIndex:
    """Rank images by their visual similarity.

    centres (C, 64) float32: the vocabulary. vectors (N, C * 64) float32: the VLAD vectors of the
    images, unit length. learned_from: the number of images that the vocabulary was learned from.
    """

    centres: np.ndarray
    vectors: np.ndarray
    learned_from: int

    @classmethod
    def build(cls, images: Iterable[Features], seed: int = 0) -> "PlaceIndex | None":
        """Learn a vocabulary from the Features of all images and index these.

        images is iterated three times. Return None when no image has a keypoint.
        """
        rng = np.random.default_rng(seed)
        count = sum(1 for _ in images)
        # A limit per image, so that memory does not grow with the number of images.
        most = -(-COLLECTED_DESCRIPTORS // max(count, 1))
        taken = (
            f.descriptors
            if len(f.descriptors) <= most
            else f.descriptors[rng.choice(len(f.descriptors), most, replace=False)]
            for f in images
        )
        usable = [descriptors.astype(np.float32) for descriptors in taken if len(descriptors)]
        if not usable:
            return None
        stacked = np.concatenate(usable)
        sample = stacked[
            rng.choice(len(stacked), min(TRAINING_DESCRIPTORS, len(stacked)), replace=False)
        ]
        clusters = min(CLUSTERS, len(sample))
        cv2.setRNGSeed(seed)
        criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_MAX_ITER, 15, 1e-4)
        flags, no_labels = cv2.KMEANS_PP_CENTERS, np.zeros(0, np.int32)
        found = cv2.kmeans(sample, clusters, no_labels, criteria, 1, flags)
        centres = np.asarray(found[2])
        return cls(centres, np.stack([_vlad(f, centres) for f in images]), count)

    def outgrown(self, count: int) -> bool:
        """Tell whether `count` images call for a new vocabulary: when they are more than twice
        those that this one was learned from, unless these were ENOUGH_IMAGES.
        """
        return self.learned_from < ENOUGH_IMAGES and count > 2 * self.learned_from

    def regrown(self, rows: Sequence[int], features: Callable[[int], Features]) -> "PlaceIndex":
        """Index other images with the same vocabulary.

        rows: for the k-th of them its index here, or -1 for a new one; features(k) returns the
        Features of a new one.
        """
        vectors = [
            self.vectors[row] if row >= 0 else _vlad(features(k), self.centres)
            for k, row in enumerate(rows)
        ]
        return PlaceIndex(self.centres, np.stack(vectors), self.learned_from)

    def similar(self, index: int, count: int, allowed: np.ndarray) -> list[int]:
        """Return the indices of the `count` images among `allowed` (mask (N,)) most similar to
        image `index`, best first.
        """
        return _best(np.where(allowed, self.vectors @ self.vectors[index], -np.inf), count)

    def like(self, features: Features, count: int) -> list[int]:
        """Return the indices of the `count` images most similar to `features`, best first."""
        return [index for index, _ in self.ranked(features, count)]

    def ranked(self, features: Features, count: int) -> list[tuple[int, float]]:
        """Return (index, similarity) of the `count` images most similar to `features`, best
        first.
        """
        score = self.vectors @ _vlad(features, self.centres)
        return [(index, float(score[index])) for index in _best(score, count)]

    def save(self, path: Path | str) -> None:
        """Write a file that :meth:`load` reads. OSError when the disk does not take it."""
        save_arrays(
            Path(path),
            {
                "centres": self.centres,
                "vectors": self.vectors.astype(np.float16),
                "learned_from": np.array([self.learned_from]),
            },
        )

    @classmethod
    def load(cls, path: Path | str) -> "PlaceIndex":
        """Read what :meth:`save` wrote. Raises ValueError, naming the file, for anything else."""
        try:
            if os.stat(path).st_size > MAX_FILE_BYTES:
                raise ValueError(f"it has more than {MAX_FILE_BYTES} bytes")
            arrays = safetensors.numpy.load_file(path)
            centres, vectors = arrays["centres"], arrays["vectors"].astype(np.float32)
            # Older versions learned from all images and did not write it.
            learned_from = int(arrays.get("learned_from", [len(vectors)])[0])
            if (
                centres.ndim != 2
                or centres.dtype != np.float32
                or vectors.ndim != 2
                or vectors.shape[1] != centres.size
                or learned_from < 0
            ):
                raise ValueError(
                    f"centres {centres.shape} and vectors {vectors.shape} do not agree"
                )
            if not (np.all(np.isfinite(centres)) and np.all(np.isfinite(vectors))):
                raise ValueError("it holds NaN or infinity")
            return cls(centres, vectors, learned_from)
        except (
            OSError,
            KeyError,
            IndexError,
            TypeError,
            ValueError,
            OverflowError,
            safetensors.SafetensorError,
        ) as error:
            raise ValueError(f"{path} is not a readable place index: {error}") from error


def _best(score: np.ndarray, count: int) -> list[int]:
    return [int(i) for i in np.argsort(-score)[:count] if np.isfinite(score[i])]


def _vlad(features: Features, centres: np.ndarray) -> np.ndarray:
    """Return the VLAD vector, (C * 64,) float32 of unit length; zeros without keypoints."""
    descriptors = features.descriptors.astype(np.float32)
    if not len(descriptors):
        return np.zeros(centres.size, np.float32)
    nearest = (descriptors @ centres.T - 0.5 * (centres**2).sum(1)).argmax(1)
    member = (nearest[:, None] == np.arange(len(centres))).astype(np.float32)
    vlad = member.T @ descriptors - member.sum(0)[:, None] * centres
    vlad /= np.linalg.norm(vlad, axis=1, keepdims=True) + 1e-9
    vector: np.ndarray = (vlad / (np.linalg.norm(vlad) + 1e-9)).ravel()
    return vector
