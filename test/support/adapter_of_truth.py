"""An adapter that knows the truth, for tests: poses and depth of images it recognises. `weights`:
the .npz of write_truth.
"""

import os
import time

import cv2
import numpy as np

THUMBNAIL = (20, 15)


def thumbnail(image):
    return cv2.resize(image, THUMBNAIL, interpolation=cv2.INTER_AREA).astype(float)


def write_truth(
    path, images, T_network_cam, depth, poses="camera_from_world", metric=False, mischief=""
):
    """depth: of each image (h, w) along z in the network's units. mischief: what goes wrong, see
    AdapterOfTruth.
    """
    np.savez(
        path,
        thumbnails=[thumbnail(image) for image in images],
        T_network_cam=T_network_cam,
        depth=depth,
        poses=poses,
        metric=metric,
        mischief=mischief,
    )
    return str(path)


class AdapterOfTruth:
    """mischief: die, hang, raise, garbage, short, loading: ends before it has said hello."""

    name, licence, device, dtype, patch = "the truth", "none", "cpu", "float64", 14
    takes = ("intrinsics", "depth", "poses")

    def __init__(self, weights="", device="auto", dtype="auto"):
        self.weights, truth = os.path.basename(weights), np.load(weights)
        self._truth = {name: truth[name] for name in truth.files}
        self._mischief = str(truth["mischief"])
        if self._mischief == "loading":
            raise ImportError("No module named 'mapanything'")

    def __call__(self, views, progress):
        from vggt3_ros.adapters.contract import Answer, Seen

        progress(0.5)
        if self._mischief == "die":
            os._exit(3)
        if self._mischief == "hang":
            time.sleep(600)
        if self._mischief == "raise":
            raise RuntimeError("CUDA out of memory: tried to allocate 3 GiB")
        seen = []
        for view in views:
            apart = np.abs(self._truth["thumbnails"] - thumbnail(view.image)).mean(axis=(1, 2, 3))
            row = int(np.argmin(apart))
            pose = self._truth["T_network_cam"][row].copy()
            pose = (
                np.linalg.inv(pose) if str(self._truth["poses"]) == "camera_from_world" else pose
            )
            if self._mischief == "garbage":
                pose[:3, :3] *= 2
            depth = self._truth["depth"][row] if view.dense else None
            seen.append(
                Seen(
                    pose,
                    view.intrinsics,
                    depth,
                    None if depth is None else np.where(depth > 0, 5.0, 1.0),
                )
            )
        return Answer(
            seen[1:] if self._mischief == "short" else seen,
            str(self._truth["poses"]),
            bool(self._truth["metric"]),
        )
