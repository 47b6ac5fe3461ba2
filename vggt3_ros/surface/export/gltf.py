"""A refined map as a glTF scene (trimesh): points, the trajectory, and a frustum for every
camera.
"""

from pathlib import Path

import numpy as np
import trimesh
import trimesh.path

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.local_frame import shifted

FRUSTUM = 0.1  # metres from the camera's centre to its drawn image plane
TRAJECTORY, CAMERAS = (230, 60, 30, 255), (40, 90, 220, 255)
# glTF's up is y, the map's (REP 103) z
Y_UP = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])


def write_gltf(path, snapshot, cloud, camera):
    """Write a .glb (one file) or .gltf (with its buffers beside it). camera: Camera whose opening
    the frustums have.

    glTF is float32: what lies far from the map's origin is written from that of the cloud on, and
    the node says where that is.
    """
    path = Path(path)
    if path.suffix not in (".glb", ".gltf"):
        raise ValueError(f"{path} must end in .glb or .gltf")
    scene, T_local_cam = trimesh.Scene(), shifted(snapshot.T_map_cam, -cloud.origin)
    placed = Y_UP @ se3.from_rotation_translation(np.eye(3), cloud.origin)
    if len(cloud):
        scene.add_geometry(
            trimesh.PointCloud(cloud.around_origin, colors=cloud.colors),
            geom_name="points",
            transform=placed,
        )
    if len(snapshot) > 1:
        scene.add_geometry(
            _lines([T_local_cam[:, :3, 3]], TRAJECTORY), geom_name="trajectory", transform=placed
        )
    scene.add_geometry(
        _lines(_frustums(T_local_cam, camera), CAMERAS), geom_name="cameras", transform=placed
    )
    if path.suffix == ".glb":
        path.write_bytes(scene.export(file_type="glb"))
        return
    for name, data in scene.export(file_type="gltf").items():
        (path if name == "model.gltf" else path.with_name(name)).write_bytes(data)


def _frustums(T_map_cam, camera):
    """Two polylines a camera, (k, 3) each, in the map frame."""
    corners = np.array(
        [
            [-0.5, -0.5],
            [camera.width - 0.5, -0.5],
            [camera.width - 0.5, camera.height - 0.5],
            [-0.5, camera.height - 0.5],
        ]
    )
    a, b, c, d = camera.unproject(corners, np.full(4, FRUSTUM))
    centre = np.zeros(3)
    outline = [np.array([a, b, c, d, a, centre, b]), np.array([c, centre, d])]
    return [se3.transform_points(pose, line) for pose in T_map_cam for line in outline]


def _lines(polylines, color):
    ends = np.cumsum([len(line) for line in polylines])
    entities = [
        trimesh.path.entities.Line(np.arange(end - len(line), end), color=color)
        for line, end in zip(polylines, ends)
    ]
    return trimesh.path.Path3D(entities, np.concatenate(polylines), process=False)
