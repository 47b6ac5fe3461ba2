"""Who competes: a name, what is said of it in the table, and the function that does it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

HERE = "vggt3_ros.benchmarks.peers"
PACKAGE, COLMAP = f"{HERE}.package:contend", f"{HERE}.colmap_mapping:contend"
ORBSLAM3, POSED = f"{HERE}.orbslam3:contend", f"{HERE}.posed_keyframes:contend"


@dataclass(frozen=True)
class Contender:
    """function: "module:name", called as name(Given, its folder, **settings) -> Outcome in a
    process of its own. settings: what JSON can hold. knows_poses: it is given the true poses of
    the keyframes, and only its localization is scored.
    """

    name: str
    title: str
    function: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    knows_poses: bool = False

    @property
    def settings_text(self) -> str:
        return json.dumps(dict(self.settings))


def contenders(config: Mapping[str, Any], orbslam3: str | None) -> list[Contender]:
    """Every contender, in the order in which they run. config: values of BackendConfig for this
    package, by their flat names; orbslam3: command of scripts/orbslam3-tracker, None without.
    """
    given = dict(config)

    def package(name: str, title: str, known: bool = False, **settings: Any) -> Contender:
        changed = settings.pop("config", {})
        return Contender(name, title, PACKAGE, {"config": given | changed, **settings}, known)

    fixed = {"fixed_poses": True}
    return [
        package("odometry", "odometry alone", refine=False),
        package("vggt3", "**vggt3_ros**"),
        package("vggt3-memory", "vggt3_ros, memory alone", verify=False),
        package(
            "vggt3-no-places",
            "vggt3_ros, no place recognition for loops",
            config={"loops.place_candidates": 0},
        ),
        # The scene memory takes what is nearer than its least maximum: nothing.
        package(
            "vggt3-no-memory",
            "vggt3_ros, no scene memory",
            config={"memory.max_depth": 0.1, "loops.memory_candidates": 0},
        ),
        Contender("colmap-sift", "pycolmap, SIFT, incremental", COLMAP),
        Contender("colmap-sift-global", "pycolmap, SIFT, GLOMAP", COLMAP, {"mapper": "global"}),
        Contender("colmap-xfeat", "pycolmap, XFeat, incremental", COLMAP, {"features": "xfeat"}),
        Contender(
            "colmap-xfeat-global",
            "pycolmap, XFeat, GLOMAP",
            COLMAP,
            {"features": "xfeat", "mapper": "global"},
        ),
        Contender(
            "orbslam3", "ORB-SLAM3", ORBSLAM3, {"command": orbslam3 or "", "loop_closing": True}
        ),
        Contender(
            "orbslam3-no-loops",
            "ORB-SLAM3, no loop closing",
            ORBSLAM3,
            {"command": orbslam3 or "", "loop_closing": False},
        ),
        package("vggt3-posed", "**vggt3_ros**, poses known", known=True, config=fixed),
        package(
            "vggt3-posed-memory",
            "vggt3_ros, poses known, memory alone",
            known=True,
            config=fixed,
            verify=False,
        ),
        Contender(
            "hloc", "hloc-style (XFeat + LighterGlue), poses known", POSED, knows_poses=True
        ),
    ]


def chosen(everyone: list[Contender], only: list[str], without: list[str]) -> list[Contender]:
    """Those named in `only` (all where it is empty) that are not in `without`. ValueError for a
    name that nobody has.
    """
    names = [contender.name for contender in everyone]
    unknown = [name for name in (*only, *without) if name not in names]
    if unknown:
        raise ValueError(f"no contender is called '{unknown[0]}'; there are: {', '.join(names)}")
    return [c for c in everyone if (not only or c.name in only) and c.name not in without]
