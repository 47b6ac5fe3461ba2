"""Render a keyframe's view from a scene memory, so that it can be localized in another memory
without any stored image.
"""

import numpy as np
import torch
from scipy.spatial import cKDTree

from vggt3_ros.features.frame import Frame
from vggt3_ros.features.xfeat import CELL, Features
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.memory.recall import expected_slots
from vggt3_ros.memory.scene_memory import SceneMemory


def view(memory: SceneMemory, camera: Camera, T_map_cam: np.ndarray) -> Frame:
    """Return the Frame that a Camera without distortion at T_map_cam (4, 4) would see of the
    memory.

    Its keypoints are the visible slots, those observed most often first. Each cell of the dense
    map holds the key of the nearest slot.
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
