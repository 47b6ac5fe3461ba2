"""What a scene memory still shows from where a keyframe was: enough to look for that view in
another memory, with no image kept.
"""

import numpy as np
import torch
from scipy.spatial import cKDTree

from vggt3_ros.features.frame import Frame
from vggt3_ros.features.xfeat import CELL, Features
from vggt3_ros.memory.recall import expected_slots


def view(memory, camera, T_map_cam):
    """SceneMemory, Camera without distortion and its pose (4, 4) -> Frame: the slots that the
    camera sees are its keypoints, those seen most often first; each cell of the dense map holds
    the key of the slot nearest to it.
    """
    slots, pixels = expected_slots(memory, camera, T_map_cam)
    order = np.argsort(-memory.observed[slots], kind="stable")
    slots, pixels = slots[order], pixels[order]
    keys = memory.keys[torch.from_numpy(slots)].cpu().numpy()
    cells = camera.height // CELL, camera.width // CELL
    features = Features(
        camera.width,
        camera.height,
        pixels.astype(np.float32),
        memory.observed[slots],
        keys,
        np.zeros((keys.shape[1], *cells), np.float16),
        np.zeros(cells, np.float16),
    )
    if len(slots):
        nearest = cKDTree(pixels).query(features.cell_centres().reshape(-1, 2))[1]
        features.dense[:] = keys[nearest].T.reshape(features.dense.shape)
    return Frame(
        -1,
        camera,
        np.zeros((camera.height, camera.width), np.uint8),
        features,
        np.zeros(len(slots), np.float32),
        np.zeros(cells, np.float32),
    )
