"""The node's own parameters: frames, rates, when to refine, where to write. Needs no ROS."""

import math
from pathlib import Path
from time import localtime, strftime
from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from vggt3_ros.frontend.selection import SelectionConfig
from vggt3_ros.ros.input.input_config import InputConfig
from vggt3_ros.system.checked import Checked, value

HOME = "~/.ros/vggt3_ros"


@dataclass(frozen=True)
class GateConfig(Checked):
    """Corrections of map->odom beyond these limits are published, but not broadcast."""

    translation: float = value(
        0.0, "Largest jump of the newest keyframe in the map; 0: unlimited", "m", 0.0, 1e6
    )
    rotation: float = value(
        0.0,
        "Largest rotation of the newest keyframe in the map; 0: unlimited",
        "rad",
        0.0,
        math.pi,
    )
    residual: float = value(
        0.0,
        "Largest median residual of the accepted loops at the solved poses; 0: unlimited",
        "m",
        0.0,
        100.0,
    )
    inlier_ratio: float = value(
        0.0, "Minimum share of the tried loops that were accepted; 0: any", "", 0.0, 1.0
    )
    relocalization: float = value(
        0.5,
        "In localization mode, a larger jump must be confirmed by three consecutive images; 0: by one",
        "m",
        0.0,
        1e6,
    )


@dataclass(frozen=True)
class GridConfig(Checked):
    """Topic occupancy_grid. Heights are measured along `up` from the origin of the map frame,
    where odometry began.
    """

    resolution: float = value(0.05, "Edge of a cell", "m", 0.01, 1.0)
    up: Literal["x", "y", "z", "-x", "-y", "-z"] = value(
        "z",
        "Axis of the map frame that points up: z as in REP 103; -y if odometry is in the axes of the first camera",
    )
    min_height: float = value(
        0.1, "Surfaces below this height are not obstacles", "m", -1000.0, 1000.0
    )
    max_height: float = value(
        1.8, "Surfaces above this height are not obstacles", "m", -1000.0, 1000.0
    )

    @model_validator(mode="after")
    def _low_below_high(self) -> Self:
        if self.min_height >= self.max_height:
            raise ValueError(
                f"min_height must be below max_height, got {self.min_height} and {self.max_height}"
            )
        return self


@dataclass(frozen=True)
class NodeConfig(Checked):
    autostart: bool = value(
        True, "Configure and activate at startup; false: wait for a lifecycle manager", live=False
    )
    store: str = value(
        "",
        f"Folder of the keyframe store; an existing store is continued. Empty: a new folder in {HOME}",
        live=False,
    )
    map_folder: str = value(
        f"{HOME}/maps", "save_map and load_map only access paths below this folder", live=False
    )
    mode: Literal["mapping", "localization"] = value(
        "mapping",
        "localization: localize keyframes in the map of `store` without storing them",
        live=False,
    )

    map_frame: str = value("map", "Frame of the corrected poses and the map", live=False)
    odom_frame: str = value(
        "", "Frame of the incoming poses. Empty: header.frame_id of the first keyframe", live=False
    )
    publish_tf: bool = value(True, "Broadcast map->odom; false if another node does")
    tf_rate: float = value(20.0, "Broadcast rate of map->odom", "Hz", 1.0, 200.0, live=False)
    transform_tolerance: float = value(
        0.1, "Time by which map->odom is stamped into the future", "s", 0.0, 5.0
    )

    refine_every_keyframes: int = value(
        10, "Number of new keyframes that triggers a refinement; 0: never", low=0, high=100_000
    )
    refine_every_seconds: float = value(
        30.0,
        "Time after which any new keyframe triggers a refinement; 0: never",
        "s",
        0.0,
        86400.0,
    )
    idle_distillation: float = value(
        60.0,
        "Idle time spent on improving the scene memory after a refinement; 0: none",
        "s",
        0.0,
        86400.0,
    )
    localize_timeout: float = value(5.0, "Time-out of a localize request", "s", 0.1, 60.0)
    worker_timeout: float = value(
        120.0,
        "A worker that is silent for this long is replaced",
        "s",
        5.0,
        3600.0,
        live=False,
    )
    status_period: float = value(1.0, "Period of the status messages", "s", 0.1, 60.0, live=False)
    gate: GateConfig = Field(default_factory=GateConfig)
    grid: GridConfig = Field(default_factory=GridConfig)
    input: InputConfig = Field(default_factory=InputConfig)
    selection: SelectionConfig = Field(default_factory=SelectionConfig)

    def store_folder(self) -> Path:
        """Return the folder for keyframes: `store`, or a new one named by the current time."""
        if self.store:
            return Path(self.store).expanduser()
        return Path(HOME).expanduser() / strftime("%Y%m%d-%H%M%S", localtime())
