"""Evaluations as a table, as JSON and as a plot."""

import json

import cv2
import numpy as np
import pytest
from round_trips import round_trip

from vggt3_ros.evaluation.report import plot_trajectories, table, write_json

TRUTH = round_trip(50)


def test_the_table_says_when_orientations_took_part_and_why_a_map_is_empty():
    turned = dict(
        RESULT,
        corrected=dict(RESULT["corrected"], aligned_by="positions and orientations"),
        map={"points": 0},
        empty=[
            "the map is empty: the keyframes see 9.0 to 40.0 m far (median 20.0 m) and map.max_depth is 5 m: raise it"
        ],
    )
    text = table(turned)
    assert (
        "(corrected aligned by orientations as well" in text
        and "map.max_depth is 5 m: raise it" in text
    )
    assert "orientations" not in table(RESULT) and "warning" not in table(RESULT)


LOCALIZATION = {
    "queries": 5,
    "localized": 0.8,
    "median_m": 0.0123,
    "median_deg": 0.45,
    "within_5cm_5deg": 0.6,
    "within_10cm_10deg": 0.8,
    "seconds_per_query": 0.21,
    "in_ellipsoid": 0.943,
    "in_pose_ellipsoid": 0.921,
}


RESULT = {
    "odometry": {"ate_m": 0.1934, "rotation_deg": 3.2},
    "corrected": {"ate_m": 0.0412, "rotation_deg": 1.1},
    "localization": LOCALIZATION,
    "localization_memory": dict(LOCALIZATION, median_m=np.inf),
    "map": {"points": 123456, "median_error_m": 0.0234},
    "network": {"summary": "not used: too few", "segment_scales": [1.0, np.nan]},
    "seconds": {"features": 4.2, "total": 33.0},
    "peak_memory_mb": 1234.5,
}


def test_the_table_tells_every_figure():
    text = table(RESULT)
    for figure in (
        "94.3%",
        "92.1%",
        "19.34 cm",
        "4.12 cm",
        "1.23 cm",
        "0.45 deg",
        "60.0%",
        "80.0%",
        "0.21 s",
        "123,456",
        "2.34 cm",
        "features 4.2",
        "33.0",
        "1234 MB",
        "network: not used: too few",
    ):
        assert figure in text, figure
    assert "none: fewer than half localized" in text and "inf" not in text


def test_a_table_without_queries_or_true_map_is_shorter():
    text = table(
        {
            k: v
            for k, v in dict(RESULT, map={"points": 7}).items()
            if not k.startswith("localization")
        }
    )
    assert "localization" not in text and "map: 7 points" in text and "error" not in text


def test_json_holds_the_figures_and_null_where_there_is_none(tmp_path):
    write_json(RESULT, tmp_path / "out.json")
    read = json.loads(
        (tmp_path / "out.json").read_text(),
        parse_constant=lambda name: pytest.fail(f"{name} is no JSON"),
    )
    assert read["localization_memory"]["median_m"] is None and read["network"][
        "segment_scales"
    ] == [1.0, None]
    assert read["corrected"] == RESULT["corrected"] and read["map"] == RESULT["map"]


def test_the_plot_is_an_image(tmp_path):
    positions = TRUTH[:, :3, 3]
    plot_trajectories(
        tmp_path / "plot.png",
        {"ground truth": positions, "odometry": positions + 0.2, "corrected": positions},
        "a title",
    )
    image = cv2.imread(str(tmp_path / "plot.png"))
    assert image.shape[0] > 300 and image.std() > 5


def test_a_run_without_depth_is_also_told_after_its_scale_is_fitted():
    fitted = {
        "scale": 1.0312,
        "corrected": {"ate_m": 0.021, "rotation_deg": 1.0},
        "localization": LOCALIZATION,
        "map": {"median_error_m": 0.0345},
    }
    text = table(RESULT | {"sim3": fitted})
    for figure in ("scaled by 1.0312", "ATE 2.10 cm", "localization 1.23 cm", "map 3.45 cm"):
        assert figure in text, figure
    assert "localization 1.23 cm" not in table(
        RESULT | {"sim3": {"scale": 1.0, "corrected": fitted["corrected"]}}
    )


def test_growth_and_breaks_of_the_odometry_are_told():
    grown = {"keyframes": 10, "onto": 40, "seconds": {"features": 1.25, "total": 9.5}}
    text = table(RESULT | {"grow": grown})
    assert "10 keyframes added to 40: features 1.2, total 9.5" in text


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_no_depth_of_nesting_hides_a_number_that_json_cannot_hold(tmp_path, value):
    write_json(
        {"a": [{"b": (1.5, value)}], "c": "text", "d": None, "e": True}, tmp_path / "x.json"
    )
    read = json.loads((tmp_path / "x.json").read_text())
    assert read == {"a": [{"b": [1.5, None]}], "c": "text", "d": None, "e": True}
