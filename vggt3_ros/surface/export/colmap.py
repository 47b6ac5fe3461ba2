"""Export a refined map as a COLMAP project: undistorted images and a text model, laid out like the
output of image_undistorter for MVS or splatting.

Format: https://colmap.github.io/format.html. COLMAP's pixel centres are at half-integers, ours at
integers; its poses are world to camera, with quaternions w first. The points come from depth
images and have no tracks.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera, undistort
from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.store.snapshot import PointMap, Snapshot

# id, translation (3,), quaternion (4,) of a keyframe
Row: TypeAlias = tuple[int, np.ndarray, np.ndarray]


def write_colmap(
    folder: Path | str,
    store: KeyframeStore,
    snapshot: Snapshot,
    cloud: PointMap,
    progress: Callable[[list[Row]], Iterable[Row]] = lambda steps: steps,
) -> None:
    """Write folder/images/*.jpg and folder/sparse/0/{cameras,images,points3D}.txt.

    store: holds the snapshot's keyframes. Image ids are keyframe ids plus one. progress: wraps the
    list of keyframes while they are written. Raises ValueError if `folder` is not empty, OSError
    if an image cannot be written.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty: name an empty folder")
    model = folder / "sparse" / "0"
    for needed in (folder / "images", model):
        needed.mkdir(parents=True, exist_ok=True)
    cameras: dict[Camera, int] = {}
    lines = []
    translations, quaternions = se3.to_quaternion(se3.inverse(snapshot.T_map_cam))
    for id, t, (x, y, z, w) in progress(
        list(zip(snapshot.keyframe_ids.tolist(), translations, quaternions))
    ):
        keyframe = store.get(id)
        image = undistort(keyframe.image, keyframe.camera)
        camera = cameras.setdefault(keyframe.camera.undistorted(), len(cameras) + 1)
        name = f"{id:08d}.jpg"
        if not cv2.imwrite(
            str(folder / "images" / name), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95]
        ):
            raise OSError(f"cannot write {folder / 'images' / name}")
        values = " ".join(f"{value:.12g}" for value in (w, x, y, z, *t))
        # The second line of an image would list its points.
        lines.append(f"{id + 1} {values} {camera} {name}\n\n")
    (model / "images.txt").write_text(
        "# IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME, then POINTS2D\n" + "".join(lines)
    )
    (model / "cameras.txt").write_text(
        "# CAMERA_ID MODEL WIDTH HEIGHT fx fy cx cy\n"
        + "".join(
            f"{number} PINHOLE {c.width} {c.height} {c.fx:.12g} {c.fy:.12g} {c.cx + 0.5:.12g} {c.cy + 0.5:.12g}\n"
            for c, number in cameras.items()
        )
    )
    with open(model / "points3D.txt", "w") as file:
        file.write("# POINT3D_ID X Y Z R G B ERROR TRACK[]\n")
        rows = np.concatenate(
            [
                np.arange(1, len(cloud) + 1)[:, None],
                cloud.points,
                cloud.colors,
                np.zeros((len(cloud), 1)),
            ],
            axis=1,
        )
        np.savetxt(file, rows, fmt="%d %.6f %.6f %.6f %d %d %d %g")
