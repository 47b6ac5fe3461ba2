"""Place recognition before a scene memory exists: VLAD over XFeat descriptors (Jegou et al., CVPR 2010; intra-normalized as
Arandjelovic and Zisserman, CVPR 2013)."""

from dataclasses import dataclass

import cv2
import numpy as np
import safetensors.numpy

CLUSTERS = 32
TRAINING_DESCRIPTORS = 40_000


@dataclass(frozen=True, eq=False)
class PlaceIndex:
    """Ranks images by how alike they look. centres (C, 64) and vectors (N, C * 64), float32: the vocabulary and the images."""

    centres: np.ndarray
    vectors: np.ndarray

    @classmethod
    def build(cls, features_list, seed=0):
        """From the Features of all images; the vocabulary is learned from them. None when no image has a keypoint."""
        usable = [f.descriptors.astype(np.float32) for f in features_list if len(f.descriptors)]
        if not usable:
            return None
        stacked = np.concatenate(usable)
        rng = np.random.default_rng(seed)
        sample = stacked[rng.choice(len(stacked), min(TRAINING_DESCRIPTORS, len(stacked)), replace=False)]
        clusters = min(CLUSTERS, len(sample))
        cv2.setRNGSeed(seed)
        criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_MAX_ITER, 15, 1e-4)
        centres = cv2.kmeans(sample, clusters, None, criteria, 1, cv2.KMEANS_PP_CENTERS)[2]
        return cls(centres, np.stack([_vlad(f, centres) for f in features_list]))

    def similar(self, index, count, allowed):
        """Indices of the `count` images among `allowed` (mask) most like image `index`, best first."""
        return _best(np.where(allowed, self.vectors @ self.vectors[index], -np.inf), count)

    def like(self, features, count):
        """Indices of the `count` images most like `features`, best first."""
        return _best(self.vectors @ _vlad(features, self.centres), count)

    def save(self, path):
        safetensors.numpy.save_file({"centres": self.centres, "vectors": self.vectors.astype(np.float16)}, path)

    @classmethod
    def load(cls, path):
        """Read what :meth:`save` wrote; ValueError naming the file when it is something else."""
        try:
            arrays = safetensors.numpy.load_file(path)
            return cls(arrays["centres"], arrays["vectors"].astype(np.float32))
        except (OSError, KeyError, safetensors.SafetensorError) as error:
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
