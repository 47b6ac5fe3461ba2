"""Services save_map, load_map, reset and set_mode. Every response has an error code and text; none
raises.
"""

from concurrent.futures import TimeoutError as FutureTimeout

import numpy as np
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup

from vggt3_ros.ros.conversions import to_transform_message
from vggt3_ros.ros.core import Refused
from vggt3_ros.ros.services.localize_service import answering, failed
from vggt3_ros.ros.services.saving import BadName, map_to_load, save_map
from vggt3_ros.srv import LoadMap, Reset, SaveMap, SetMode
from vggt3_ros.worker.client import WorkerError

RESET_SECONDS = 30.0
LOAD_SECONDS = 600.0  # copying a thousand keyframes depends on the disk
LOAD_CODES = {
    "ok": LoadMap.Response.NONE,
    "unreadable": LoadMap.Response.UNREADABLE,
    "conflict": LoadMap.Response.CONFLICT,
    "no_map": LoadMap.Response.NO_MAP,
    "not_localized": LoadMap.Response.NOT_LOCALIZED,
}


class MapServices:
    """core: the node's Core."""

    def __init__(self, node, core):
        self._node, self._core = node, core
        # One callback group each, so that none waits for another.
        self._services = [
            node.create_service(
                kind,
                name,
                answering(node, handler, code),
                callback_group=MutuallyExclusiveCallbackGroup(),
            )
            for kind, name, handler, code in (
                (SaveMap, "save_map", self._save_map, SaveMap.Response.WRITE_FAILED),
                (LoadMap, "load_map", self._load_map, LoadMap.Response.FAILED),
                (Reset, "reset", self._reset, Reset.Response.FAILED),
                (SetMode, "set_mode", self._set_mode, SetMode.Response.BAD_MODE),
            )
        ]

    def destroy(self):
        for service in self._services:
            self._node.destroy_service(service)

    def _save_map(self, request, response):
        kinds = SaveMap.Response
        snapshot = self._core.snapshot
        keyframes = len(self._core.store)
        if not keyframes:
            return failed(response, kinds.NOTHING, "there are no keyframes to save")
        try:
            folder = save_map(
                self._core.store,
                snapshot,
                self._core.parameters.node.map_folder,
                request.name,
                request.images,
            )
        except BadName as error:
            return failed(response, kinds.BAD_NAME, str(error))
        except FileExistsError as error:
            return failed(response, kinds.EXISTS, str(error))
        except (OSError, ValueError) as error:
            return failed(response, kinds.WRITE_FAILED, str(error))
        response.folder, response.keyframes = str(folder), keyframes
        response.generation = snapshot.generation if snapshot is not None else 0
        self._node.get_logger().info(f"saved {keyframes} keyframes to {folder}")
        return response

    def _load_map(self, request, response):
        kinds = LoadMap.Response
        response.t_map_loaded = to_transform_message(np.eye(4))
        if request.mode not in (LoadMap.Request.REPLACE, LoadMap.Request.MERGE):
            return failed(
                response, kinds.BAD_NAME, f"mode must be REPLACE or MERGE, got {request.mode}"
            )
        try:
            folder = map_to_load(self._core.parameters.node.map_folder, request.name)
            answer = self._core.load(folder, request.mode == LoadMap.Request.MERGE, LOAD_SECONDS)
        except BadName as error:
            return failed(response, kinds.BAD_NAME, str(error))
        except FileNotFoundError as error:
            return failed(response, kinds.NOT_FOUND, str(error))
        except Refused as error:
            return failed(response, kinds.CONFLICT, str(error))
        except (WorkerError, OSError, ValueError, FutureTimeout) as error:
            return failed(
                response,
                kinds.FAILED,
                str(error) or f"the worker did not respond within {LOAD_SECONDS:.0f} s",
            )
        if answer["code"] != "ok":
            return failed(response, LOAD_CODES[answer["code"]], answer["message"])
        response.keyframes, response.added, response.generation = (
            answer["keyframes"],
            answer["added"],
            answer["generation"],
        )
        response.t_map_loaded = to_transform_message(np.reshape(answer["T_map_loaded"], (4, 4)))
        self._node.get_logger().info(f"loaded {answer['added']} keyframes from {folder}")
        return response

    def _reset(self, request, response):
        try:
            response.keyframes = self._core.reset(RESET_SECONDS)
        except (WorkerError, ValueError, FutureTimeout) as error:
            return failed(
                response,
                Reset.Response.FAILED,
                str(error) or f"the worker did not respond within {RESET_SECONDS:.0f} s",
            )
        return response

    def _set_mode(self, request, response):
        kinds = SetMode.Response
        codes = {"no_map": kinds.NO_MAP, "other_odometry": kinds.OTHER_ODOMETRY}
        try:
            if request.mode not in (SetMode.Request.MAPPING, SetMode.Request.LOCALIZATION):
                raise Refused("mode", f"mode must be MAPPING or LOCALIZATION, got {request.mode}")
            self._core.set_mode(
                request.mode == SetMode.Request.LOCALIZATION, RESET_SECONDS, request.new_session
            )
        except Refused as error:
            response = failed(response, codes.get(error.code, kinds.BAD_MODE), str(error))
        except (WorkerError, ValueError, FutureTimeout) as error:
            response = failed(
                response,
                kinds.FAILED,
                str(error) or f"the worker did not respond within {RESET_SECONDS:.0f} s",
            )
        response.mode = (
            SetMode.Request.LOCALIZATION if self._core.localizing else SetMode.Request.MAPPING
        )
        return response
