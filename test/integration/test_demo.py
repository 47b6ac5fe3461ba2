"""The demo on a recorded folder: played over ROS 2, refined, asked, scored, in processes of its
own.
"""

import json
import subprocess
import sys

import numpy as np

from vggt3_ros.datasets.sequence import KeyframeList, Query, Sequence
from vggt3_ros.datasets.tum import write_tum


def test_a_folder_is_played_refined_asked_and_scored(rendered, tmp_path):
    """Queries lie between its keyframes."""
    rows = np.arange(0, 20, 2)
    stamps, odometry, truth = (
        array[rows] for array in (rendered.stamps_ns, rendered.T_odom_cam, rendered.T_world_cam)
    )
    some = [rendered.keyframes[i] for i in rows]
    keyframes = KeyframeList(
        rendered.camera, stamps, odometry, lambda i: some[i].image, lambda i: some[i].depth
    )
    queries = [
        Query(
            int(rendered.stamps_ns[k]),
            lambda k=k: rendered.keyframes[k].image,
            rendered.T_world_cam[k],
        )
        for k in (5, 9)
    ]
    write_tum(
        tmp_path / "folder",
        Sequence("rendered", rendered.camera, stamps, keyframes, truth, queries),
    )
    command = [
        sys.executable,
        "-c",
        "from vggt3_ros.cli.main import main; raise SystemExit(main())",
        "demo",
        str(tmp_path / "folder"),
        "--out",
        str(tmp_path / "out"),
        "--rate",
        "5",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "out" / "table.json").read_text())
    for name in ("localization", "localization_memory"):
        assert (
            result[name]["queries"] == 2
            and result[name]["localized"] == 1
            and result[name]["median_m"] < 0.1
        )
        assert result[name]["in_ellipsoid"] is not None
    assert result["map"]["points"] > 1000 and "scene memory alone" in done.stdout
    assert {"table.json", "map.ply", "trajectory.txt", "trajectory.png"} <= {
        path.name for path in (tmp_path / "out").iterdir()
    }
