"""Place recognition before a scene memory exists: VLAD over XFeat descriptors (Jegou et al., CVPR 2010; intra-normalized as
Arandjelovic and Zisserman, CVPR 2013)."""

import cv2
import numpy as np

CLUSTERS = 32
TRAINING_DESCRIPTORS = 40_000


class PlaceIndex:
    """Ranks images by how alike they look. The vocabulary is learned from the images themselves."""

    def __init__(self, features_list, seed=0):
        """features_list: Features of all images (at least one with keypoints); raises ValueError when none has any."""
        usable = [f.descriptors.astype(np.float32) for f in features_list if len(f.descriptors)]
        if not usable:
            raise ValueError("no image has a keypoint to recognise it by")
        stacked = np.concatenate(usable)
        rng = np.random.default_rng(seed)
        sample = stacked[rng.choice(len(stacked), min(TRAINING_DESCRIPTORS, len(stacked)), replace=False)]
        clusters = min(CLUSTERS, len(sample))
        cv2.setRNGSeed(seed)
        criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_MAX_ITER, 20, 1e-4)
        _, _, self.centres = cv2.kmeans(sample, clusters, None, criteria, 1, cv2.KMEANS_PP_CENTERS)
        self.vectors = np.stack([self.vector(f) for f in features_list])

    def vector(self, features):
        """(clusters * 64,) float32 of unit length (zero without keypoints)."""
        descriptors = features.descriptors.astype(np.float32)
        vlad = np.zeros_like(self.centres)
        if len(descriptors):
            nearest = (descriptors @ self.centres.T - 0.5 * (self.centres**2).sum(1)).argmax(1)
            np.add.at(vlad, nearest, descriptors - self.centres[nearest])
            vlad /= np.linalg.norm(vlad, axis=1, keepdims=True) + 1e-9
        return (vlad / (np.linalg.norm(vlad) + 1e-9)).ravel()

    def similar(self, index, count, allowed):
        """Indices of the `count` images among `allowed` (mask) most like image `index`, best first."""
        score = np.where(allowed, self.vectors @ self.vectors[index], -np.inf)
        order = np.argsort(-score)[:count]
        return [int(i) for i in order if np.isfinite(score[i])]
