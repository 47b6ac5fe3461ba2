"""Export a refined map as a .rrd file for the rerun viewer (rerun-sdk, Apache-2.0 or MIT; an
optional extra).
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np

from vggt3_ros.geometry.camera import undistort
from vggt3_ros.geometry.local_frame import shifted
from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.store.snapshot import PointMap, Snapshot

JPEG_QUALITY = 85
MAX_WIDTH = 640  # pixels, of the images in the file


# id, stamp in nanoseconds, pose (4, 4) of a keyframe
Row: TypeAlias = tuple[int, int, np.ndarray]


def write_rerun(
    path: Path | str,
    store: KeyframeStore,
    snapshot: Snapshot,
    cloud: PointMap,
    progress: Callable[[list[Row]], Iterable[Row]] = lambda steps: steps,
) -> None:
    """Write points, trajectory, and every keyframe's camera with its image on the timeline
    "stamp".

    Raises ValueError if rerun-sdk is not installed. rerun's coordinates are float32: a map far
    from its origin is written relative to the origin of the cloud. progress: wraps the list of
    keyframes while they are written.
    """
    try:
        import rerun as rr
    except ImportError as error:
        raise ValueError(
            "writing rerun files needs rerun-sdk: pip install 'vggt3_ros[rerun]' or scripts/run pip install rerun-sdk"
        ) from error
    recording = rr.RecordingStream("vggt3_ros", send_properties=False)
    recording.save(str(path))
    recording.log("map", rr.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
    recording.log("map/points", rr.Points3D(cloud.around_origin, colors=cloud.colors), static=True)
    T_local_cam = shifted(snapshot.T_map_cam, -cloud.origin)
    recording.log("map/trajectory", rr.LineStrips3D([T_local_cam[:, :3, 3]]), static=True)
    for id, stamp_ns, pose in progress(
        list(zip(snapshot.keyframe_ids.tolist(), snapshot.stamps_ns.tolist(), T_local_cam))
    ):
        keyframe = store.get(id)
        image, camera = undistort(keyframe.image, keyframe.camera), keyframe.camera.undistorted()
        if camera.width > MAX_WIDTH:
            camera = camera.scaled(MAX_WIDTH, round(camera.height * MAX_WIDTH / camera.width))
            image = cv2.resize(image, (camera.width, camera.height), interpolation=cv2.INTER_AREA)
        recording.set_time("stamp", timestamp=np.datetime64(stamp_ns, "ns"))
        recording.log("map/camera", rr.Transform3D(translation=pose[:3, 3], mat3x3=pose[:3, :3]))
        recording.log(
            "map/camera",
            rr.Pinhole(
                image_from_camera=camera.matrix,
                resolution=[camera.width, camera.height],
                camera_xyz=rr.ViewCoordinates.RDF,
            ),
        )
        encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[
            1
        ]
        recording.log(
            "map/camera", rr.EncodedImage(contents=encoded.tobytes(), media_type="image/jpeg")
        )
    recording.flush()
    recording.disconnect()
