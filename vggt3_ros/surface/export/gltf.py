"""Export a refined map as a glTF scene (trimesh): points, trajectory, and one frustum per camera."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import trimesh
import trimesh.path

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.geometry.local_frame import shifted
from vggt3_ros.store.snapshot import PointMap, Snapshot

FRUSTUM = 0.1  # metres from the camera centre to the drawn image plane
TRAJECTORY, CAMERAS = (230, 60, 30, 255), (40, 90, 220, 255)
# Up is y in glTF, z in the map (REP 103).
Y_UP = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])


def write_gltf(path: Path | str, snapshot: Snapshot, cloud: PointMap, camera: Camera) -> None:
    """Write a .glb (one file) or .gltf (with its buffers in separate files). camera: gives the
    frustums their shape.

    glTF is float32. A map far from its origin is written relative to the origin of the cloud, and
    the node's transform holds that offset. Raises ValueError for another file extension.
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


def _frustums(T_map_cam: np.ndarray, camera: Camera) -> list[np.ndarray]:
    """Return two polylines (k, 3) per camera, in the frame of the poses."""
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


def _lines(
    polylines: Sequence[np.ndarray], color: tuple[int, int, int, int]
) -> trimesh.path.Path3D:
    """Return a path of polylines in one colour."""
    ends = np.cumsum([len(line) for line in polylines])
    entities = [
        trimesh.path.entities.Line(np.arange(end - len(line), end), color=color)
        for line, end in zip(polylines, ends)
    ]
    return trimesh.path.Path3D(entities, np.concatenate(polylines), process=False)
