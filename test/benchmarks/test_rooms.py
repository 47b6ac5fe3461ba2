"""vggt3 benchmark rooms on few keyframes: rows that say what was measured, and nothing done
twice.
"""

import pytest

from vggt3_ros.benchmarks.rooms import measure
from vggt3_ros.cli.benchmark.rooms import line
from vggt3_ros.cli.main import main
from vggt3_ros.datasets.sequence import KeyframeList, Query, Sequence
from vggt3_ros.datasets.synthetic import home_tours


@pytest.fixture(scope="module")
def walk(rendered):
    """The rendered apartment, whose first two rooms lie as those of a home do."""
    some = rendered.keyframes[:24]
    keyframes = KeyframeList(
        rendered.camera,
        rendered.stamps_ns[:24],
        rendered.T_odom_cam[:24],
        lambda i: some[i].image,
        lambda i: some[i].depth,
    )
    queries = [
        Query(k, lambda k=k: rendered.queries[k], rendered.T_world_query[k]) for k in (2, 4, 11)
    ]
    return Sequence(
        "walk",
        rendered.camera,
        rendered.stamps_ns[:24],
        keyframes,
        rendered.T_world_cam[:24],
        queries,
    )


def test_each_size_is_measured_and_nothing_is_made_twice(walk, tmp_path):
    assert set(home_tours.room_of(walk.groundtruth)) == {0, 1}
    rows = list(measure(walk, tmp_path, [1, 2], {}, lambda text, part: None))
    assert [row["rooms"] for row in rows] == [1, 2]
    assert (
        rows[0]["keyframes"] == (home_tours.room_of(walk.groundtruth) == 0).sum()
        and rows[1]["keyframes"] == 24
    )
    assert rows[0]["slots"] < rows[1]["slots"] and rows[1]["memory_mb"] < 4
    for row in rows:
        assert (
            row["localization"]["median_m"] < 0.05
            and row["localization_memory"]["median_m"] < 0.05
        )
    told = []
    again = list(measure(walk, tmp_path, [1, 2], {}, lambda text, part: told.append(text)))
    assert not any(text.startswith("memory") for text in told)
    assert again[1]["memory_s"] == rows[1]["memory_s"] and again[1]["slots"] == rows[1]["slots"]
    assert "24 keyframes" in line(rows[1]) and "verified median" in line(rows[1])


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--rooms", "0"], "1 to 64"),
        (["--queries", "0"], "1 or more"),
        (["--rounds", "0"], "1 to 20"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, words, tmp_path, capsys):
    try:
        assert main(["benchmark", "rooms", "--folder", str(tmp_path), "--quiet", *arguments]) == 2
    except SystemExit as error:
        assert error.code == 2
    assert words in capsys.readouterr().err
