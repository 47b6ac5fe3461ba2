"""What the node adds to BackendConfig: frames, topics' rates, when to refine, where to write.
Needs no ROS.
"""

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
    """Corrections of map->odom beyond these are published, but not broadcast."""

    translation: float = value(
        0.0, "Farthest the newest keyframe may jump in the map; 0: any distance", "m", 0.0, 1e6
    )
    rotation: float = value(
        0.0, "Most the newest keyframe may turn in the map; 0: any angle", "rad", 0.0, math.pi
    )
    residual: float = value(
        0.0,
        "Median disagreement of the accepted loops with the solved poses; 0: any",
        "m",
        0.0,
        100.0,
    )
    inlier_ratio: float = value(
        0.0, "Least share of the loops tried that were accepted; 0: any", "", 0.0, 1.0
    )
    relocalization: float = value(
        0.5,
        "In localization mode a jump beyond this must be seen by three images in a row; 0: by one",
        "m",
        0.0,
        1e6,
    )


@dataclass(frozen=True)
class GridConfig(Checked):
    """Topic occupancy_grid. Heights are along `up` from the origin of the map frame: where
    odometry began.
    """

    resolution: float = value(0.05, "Edge of a cell", "m", 0.01, 1.0)
    up: Literal["x", "y", "z", "-x", "-y", "-z"] = value(
        "z",
        "Axis of the map frame that points up: z as REP 103 has it; -y where odometry is in the axes of the first camera",
    )
    min_height: float = value(
        0.1, "Surfaces lower than this are no obstacles", "m", -1000.0, 1000.0
    )
    max_height: float = value(
        1.8, "Surfaces higher than this are no obstacles", "m", -1000.0, 1000.0
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
        True, "Configure and activate at once; false: wait for a lifecycle manager", live=False
    )
    store: str = value(
        "",
        f"Folder of the keyframe store; an existing one is continued. Empty: a new one in {HOME}",
        live=False,
    )
    map_folder: str = value(
        f"{HOME}/maps", "save_map writes below this folder, load_map reads below it", live=False
    )
    mode: Literal["mapping", "localization"] = value(
        "mapping",
        "localization: localize keyframes in the map of `store`, and store none",
        live=False,
    )

    map_frame: str = value("map", "Frame of the corrected poses and the map", live=False)
    odom_frame: str = value(
        "", "Frame of the incoming poses. Empty: header.frame_id of the first keyframe", live=False
    )
    publish_tf: bool = value(True, "Broadcast map->odom; false where something above does")
    tf_rate: float = value(20.0, "How often map->odom is broadcast", "Hz", 1.0, 200.0, live=False)
    transform_tolerance: float = value(
        0.1, "map->odom is stamped so far ahead of now", "s", 0.0, 5.0
    )

    refine_every_keyframes: int = value(
        10, "New keyframes that start a refinement; 0: never", low=0, high=100_000
    )
    refine_every_seconds: float = value(
        30.0, "Time after which any new keyframe starts a refinement; 0: never", "s", 0.0, 86400.0
    )
    idle_distillation: float = value(
        60.0, "Idle time spent on the memory after a refinement; 0: none", "s", 0.0, 86400.0
    )
    localize_timeout: float = value(
        5.0, "A localize request is answered within this time", "s", 0.1, 60.0
    )
    worker_timeout: float = value(
        120.0,
        "A worker without a sign of life for so long is replaced",
        "s",
        5.0,
        3600.0,
        live=False,
    )
    status_period: float = value(
        1.0, "Time between two status messages", "s", 0.1, 60.0, live=False
    )
    gate: GateConfig = Field(default_factory=GateConfig)
    grid: GridConfig = Field(default_factory=GridConfig)
    input: InputConfig = Field(default_factory=InputConfig)
    selection: SelectionConfig = Field(default_factory=SelectionConfig)

    def store_folder(self) -> Path:
        """Return where keyframes go: `store`, or a new folder named by the time."""
        if self.store:
            return Path(self.store).expanduser()
        return Path(HOME).expanduser() / strftime("%Y%m%d-%H%M%S", localtime())
