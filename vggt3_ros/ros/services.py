"""Services localize, save_map and reset: error code and text in every answer, never an exception."""

import time
from concurrent.futures import TimeoutError as FutureTimeout

import numpy as np
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from std_msgs.msg import Header

from vggt3_ros.geometry import se3
from vggt3_ros.ros.conversions import from_nanoseconds, to_camera, to_image, to_nanoseconds, to_transform, with_covariance
from vggt3_ros.ros.saving import BadName, save_map
from vggt3_ros.srv import Localize, Reset, SaveMap
from vggt3_ros.worker_client import WorkerError

CODES = {"ok": Localize.Response.NONE, "no_map": Localize.Response.NO_MAP, "not_localized": Localize.Response.NOT_LOCALIZED,
         "bad_image": Localize.Response.BAD_IMAGE}
RESET_SECONDS = 30.0


class Services:
    """`core` is the node's Core: store, worker, refinery, snapshot, intake, parameters."""

    def __init__(self, node, core):
        self._node, self._core = node, core
        self.localizations = self.localized = 0
        # One group each: localize must not wait for a save, and the worker localizes one image at a time anyway.
        self._services = [
            node.create_service(kind, name, handler, callback_group=MutuallyExclusiveCallbackGroup())
            for kind, name, handler in ((Localize, "localize", self._localize), (SaveMap, "save_map", self._save_map),
                                        (Reset, "reset", self._reset))]

    def destroy(self):
        for service in self._services:
            self._node.destroy_service(service)

    def _localize(self, request, response):
        self.localizations += 1
        try:
            camera = to_camera(request.camera_info)
            image, _ = to_image(request, camera)
            hint = to_transform(request.hint.pose, "hint.pose") if request.use_hint else None
        except (ValueError, OverflowError, MemoryError) as error:
            return _failed(response, Localize.Response.BAD_IMAGE, str(error))
        timeout = self._core.parameters.node.localize_timeout
        try:
            found = self._core.worker.localize(image, camera, hint, request.verify).result(timeout)
        except FutureTimeout:
            return _failed(response, Localize.Response.TIMEOUT, f"no answer within localize_timeout, {timeout} s")
        except WorkerError as error:
            code = Localize.Response.BAD_IMAGE if error.code == "invalid" else Localize.Response.NO_WORKER
            return _failed(response, code, str(error))
        response.error_code, response.error_msg = CODES.get(found["code"], Localize.Response.NOT_LOCALIZED), found["message"]
        response.generation, response.seconds = found["generation"], found["seconds"]
        response.inliers, response.reprojection_error = found["inliers"], found["reprojection_error_px"]
        if found["code"] == "ok":
            self.localized += 1
            source = request.compressed_image if len(request.compressed_image.data) else request.image
            response.pose.header = Header(stamp=from_nanoseconds(to_nanoseconds(source.header.stamp)),
                                          frame_id=self._core.parameters.node.map_frame)
            response.pose.pose = with_covariance(se3.orthonormalize(np.reshape(found["T_map_cam"], (4, 4))),
                                                 np.reshape(found["covariance"], (6, 6)))
        return response

    def _save_map(self, request, response):
        kinds = SaveMap.Response
        snapshot = self._core.snapshot
        keyframes = len(self._core.store)
        if not keyframes:
            return _failed(response, kinds.NOTHING, "there is no keyframe to save")
        try:
            folder = save_map(self._core.store, snapshot, self._core.parameters.node.map_folder, request.name)
        except BadName as error:
            return _failed(response, kinds.BAD_NAME, str(error))
        except FileExistsError as error:
            return _failed(response, kinds.EXISTS, str(error))
        except (OSError, ValueError) as error:
            return _failed(response, kinds.WRITE_FAILED, str(error))
        response.folder, response.keyframes = str(folder), keyframes
        response.generation = snapshot.generation if snapshot is not None else 0
        self._node.get_logger().info(f"saved {keyframes} keyframes to {folder}")
        return response

    def _reset(self, request, response):
        limit = time.monotonic() + RESET_SECONDS
        try:
            response.keyframes = self._core.reset(limit - time.monotonic())
        except (WorkerError, ValueError, FutureTimeout) as error:
            return _failed(response, Reset.Response.FAILED, str(error) or f"the worker did not answer within {RESET_SECONDS} s")
        return response


def _failed(response, code, text):
    response.error_code, response.error_msg = code, text
    return response
