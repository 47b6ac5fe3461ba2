"""Service localize. Every response has an error code and text; none raises."""

import traceback
from concurrent.futures import TimeoutError as FutureTimeout
from functools import partial

import numpy as np
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from std_msgs.msg import Header

from vggt3_ros.geometry import se3
from vggt3_ros.messages.reading import to_transform, to_view
from vggt3_ros.ros.conversions import with_covariance
from vggt3_ros.srv import Localize
from vggt3_ros.worker.client import WorkerError

CODES = {
    "ok": Localize.Response.NONE,
    "no_map": Localize.Response.NO_MAP,
    "not_localized": Localize.Response.NOT_LOCALIZED,
    "bad_image": Localize.Response.BAD_IMAGE,
}


class LocalizeService:
    """core: the node's Core, of which worker and parameters are used."""

    def __init__(self, node, core):
        self._node, self._core = node, core
        self.asked = self.localized = 0
        self._service = node.create_service(
            Localize,
            "localize",
            answering(node, self._localize, Localize.Response.NO_WORKER),
            callback_group=MutuallyExclusiveCallbackGroup(),
        )

    def destroy(self):
        self._node.destroy_service(self._service)

    def _localize(self, request, response):
        self.asked += 1
        try:
            camera, image, _ = to_view(
                request, to_8_bits=partial(self._core.intake.levels.to_8_bits, grow=False)
            )
            hint = to_transform(request.hint.pose, "hint.pose") if request.use_hint else None
        except (ValueError, OverflowError, MemoryError) as error:
            return failed(response, Localize.Response.BAD_IMAGE, str(error))
        timeout = self._core.parameters.node.localize_timeout
        try:
            found = self._core.worker.localize(image, camera, hint, request.verify).result(timeout)
        except FutureTimeout:
            return failed(
                response,
                Localize.Response.TIMEOUT,
                f"no answer within localize_timeout, {timeout} s",
            )
        except WorkerError as error:
            code = (
                Localize.Response.BAD_IMAGE
                if error.code in ("invalid", "set_aside")
                else Localize.Response.NO_WORKER
            )
            return failed(response, code, str(error))
        response.error_code, response.error_msg = (
            CODES.get(found["code"], Localize.Response.NOT_LOCALIZED),
            found["message"],
        )
        response.generation, response.seconds = found["generation"], found["seconds"]
        response.inliers, response.reprojection_error = (
            found["inliers"],
            found["reprojection_error_px"],
        )
        if found["code"] == "ok":
            self.localized += 1
            source = (
                request.compressed_image if len(request.compressed_image.data) else request.image
            )
            response.pose.header = Header(
                stamp=source.header.stamp, frame_id=self._core.parameters.node.map_frame
            )
            response.pose.pose = with_covariance(
                se3.orthonormalize(np.reshape(found["T_map_cam"], (4, 4))),
                np.reshape(found["covariance"], (6, 6)),
            )
        return response


def answering(node, handler, code):
    """Wrap a service handler: an exception is logged and answered with `code`, so that the client
    does not wait forever.
    """

    def answer(request, response):
        try:
            return handler(request, response)
        except Exception as error:
            node.get_logger().error(f"unexpected error in a request:\n{traceback.format_exc()}")
            return failed(type(response)(), code, f"{type(error).__name__}: {error}")

    return answer


def failed(response, code, text):
    """Set an error and return the response."""
    response.error_code, response.error_msg = code, text
    return response
