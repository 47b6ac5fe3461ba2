"""Place recognition, before a scene memory exists and among the memories of a large map: VLAD over
XFeat descriptors (Jegou et al., CVPR 2010; intra-normalized as Arandjelovic and Zisserman, CVPR
2013).
"""

import os
from dataclasses import dataclass

import cv2
import numpy as np
import safetensors.numpy

from vggt3_ros.store.arrays import save_arrays

CLUSTERS = 32
MAX_FILE_BYTES = 2**30
TRAINING_DESCRIPTORS = 40_000
ENOUGH_IMAGES = 256  # a vocabulary learned from so many is kept for good
COLLECTED_DESCRIPTORS = 160_000  # that those are drawn from


@dataclass(frozen=True, eq=False)
class PlaceIndex:
    """Ranks images by how alike they look. centres (C, 64) and vectors (N, C * 64), float32: the
    vocabulary and the images. learned_from: number of images that the vocabulary was learned
    from.
    """

    centres: np.ndarray
    vectors: np.ndarray
    learned_from: int

    @classmethod
    def build(cls, images, seed=0):
        """From the Features of all images, gone through twice; the vocabulary is learned from
        them. None when none has a keypoint.
        """
        rng = np.random.default_rng(seed)
        count = sum(1 for _ in images)
        # of an image, so that many images need no more memory
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
        centres = cv2.kmeans(sample, clusters, None, criteria, 1, cv2.KMEANS_PP_CENTERS)[2]
        return cls(centres, np.stack([_vlad(f, centres) for f in images]), count)

    def outgrown(self, count):
        """Whether `count` images deserve a vocabulary of their own: more than twice those it was
        learned from, until those are enough.
        """
        return self.learned_from < ENOUGH_IMAGES and count > 2 * self.learned_from

    def regrown(self, rows, features):
        """With the same vocabulary, over other images. rows: for each of them its index here, or
        -1; features(k) -> Features of those.
        """
        vectors = [
            self.vectors[row] if row >= 0 else _vlad(features(k), self.centres)
            for k, row in enumerate(rows)
        ]
        return PlaceIndex(self.centres, np.stack(vectors), self.learned_from)

    def similar(self, index, count, allowed):
        """Indices of the `count` images among `allowed` (mask) most like image `index`, best
        first.
        """
        return _best(np.where(allowed, self.vectors @ self.vectors[index], -np.inf), count)

    def like(self, features, count):
        """Indices of the `count` images most like `features`, best first."""
        return [index for index, _ in self.ranked(features, count)]

    def ranked(self, features, count):
        """(index, similarity) of the `count` images most like `features`, best first."""
        score = self.vectors @ _vlad(features, self.centres)
        return [(index, float(score[index])) for index in _best(score, count)]

    def save(self, path):
        """Write a file that :meth:`load` reads. OSError when the disk does not take it."""
        save_arrays(
            path,
            {
                "centres": self.centres,
                "vectors": self.vectors.astype(np.float16),
                "learned_from": np.array([self.learned_from]),
            },
        )

    @classmethod
    def load(cls, path):
        """Read what :meth:`save` wrote; ValueError naming the file when it is something else."""
        try:
            if os.stat(path).st_size > MAX_FILE_BYTES:
                raise ValueError(f"it has more than {MAX_FILE_BYTES} bytes")
            arrays = safetensors.numpy.load_file(path)
            centres, vectors = arrays["centres"], arrays["vectors"].astype(np.float32)
            # older versions learned from all
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


def _best(score, count):
    return [int(i) for i in np.argsort(-score)[:count] if np.isfinite(score[i])]


def _vlad(features, centres):
    """(C * 64,) float32 of unit length (zero without keypoints)."""
    descriptors = features.descriptors.astype(np.float32)
    if not len(descriptors):
        return np.zeros(centres.size, np.float32)
    nearest = (descriptors @ centres.T - 0.5 * (centres**2).sum(1)).argmax(1)
    member = (nearest[:, None] == np.arange(len(centres))).astype(np.float32)
    vlad = member.T @ descriptors - member.sum(0)[:, None] * centres
    vlad /= np.linalg.norm(vlad, axis=1, keepdims=True) + 1e-9
    return (vlad / (np.linalg.norm(vlad) + 1e-9)).ravel()
