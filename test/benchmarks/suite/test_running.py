"""A run of many benchmarks goes on when one fails, and has on the disk what it knows."""

import json
import os
import sys
import time

import psutil
import pytest

from vggt3_ros.benchmarks.suite.figures import of_evaluate, share
from vggt3_ros.benchmarks.suite.parts import FOLDER, OUT, Part, parts
from vggt3_ros.benchmarks.suite.running import FAILED, MISSED, PASSED, Suite
from vggt3_ros.system.machine import describe

PYTHON = [sys.executable, "-c"]


def part(program, *arguments, figures=lambda result: {"share": share(result["share"], 10)}):
    return Part("it", (program, *arguments), "it", figures)


@pytest.fixture
def suite(tmp_path):
    return Suite(tmp_path / "bench.json", quick=True)


def on_disk(suite):
    return json.loads(suite.path.read_text())


def test_what_is_known_is_on_the_disk_from_the_beginning(suite):
    told = on_disk(suite)
    assert told["quick"] is True and told["parts"] == {}
    for name in ("cpu", "cores", "libraries", "commit"):
        assert told["machine"][name] == describe()[name]


def test_a_part_prints_its_json_or_writes_it(suite):
    printed = suite.run(part("print('{\"share\": 0.5}')"), 1, 5, PYTHON)
    assert printed["figures"]["share"] == {
        "value": 0.5,
        "unit": "share",
        "better": "higher",
        "of": 10,
        "values": [0.5],
    }
    assert printed["status"] == PASSED and printed["result"] == {"share": 0.5}
    writes = "import sys; print('chatter'); open(sys.argv[1], 'w').write('{\"share\": 0.25}')"
    assert suite.run(part(writes, OUT), 1, 5, PYTHON)["figures"]["share"]["value"] == 0.25
    assert on_disk(suite)["parts"]["it"]["result"] == {"share": 0.25}


def test_a_part_has_an_empty_folder_of_its_own(suite):
    program = "import json, os, sys; print(json.dumps({'share': float(len(os.listdir(sys.argv[1]))), 'at': sys.argv[1]}))"
    told = suite.run(part(program, FOLDER), 1, 5, PYTHON)
    assert told["result"]["share"] == 0 and not os.path.exists(told["result"]["at"])


def test_the_median_of_repeated_runs_counts(suite, tmp_path):
    counter = tmp_path / "count"
    program = (
        "import sys, pathlib; p = pathlib.Path(sys.argv[1]); n = int(p.read_text()) if p.exists() else 0;"
        " p.write_text(str(n + 1)); print({0: '{\"share\": 0.9}', 1: '{\"share\": 0.1}', 2: '{\"share\": 0.4}'}[n])"
    )
    told = suite.run(part(program, str(counter)), 3, 5, PYTHON)["figures"]["share"]
    assert told["value"] == 0.4 and told["values"] == [0.9, 0.1, 0.4]


def test_a_missed_target_keeps_its_figures(suite):
    told = suite.run(part("print('{\"share\": 0.5}'); raise SystemExit(1)"), 1, 5, PYTHON)
    assert told["status"] == MISSED and told["figures"]["share"]["value"] == 0.5


@pytest.mark.parametrize(
    "program, said",
    [
        ("raise SystemExit('no such data')", "wrote no JSON"),
        ("import sys; sys.stderr.write('needs ROS'); sys.exit(2)", "exit status 2: needs ROS"),
        ("import os; os.kill(os.getpid(), 9)", "SIGKILL"),
        ("print('chatter'); print('{\"share\": 1}')", "wrote no JSON"),
        ("print('{}')", "KeyError: 'share'"),
    ],
)
def test_a_part_that_fails_is_told_and_the_next_one_runs(suite, program, said):
    told = suite.run(part(program), 1, 5, PYTHON)
    assert told["status"] == FAILED and said in told["error"] and "figures" not in told
    suite.run(Part("next", ("print('{\"share\": 1}')",), "", lambda result: {}), 1, 5, PYTHON)
    assert [entry["status"] for entry in on_disk(suite)["parts"].values()] == [FAILED, PASSED]


def test_a_part_that_hangs_is_ended_with_what_it_started(suite, tmp_path):
    pid = tmp_path / "pid"
    program = (
        "import subprocess, sys, time; p = subprocess.Popen(['sleep', '600']);"
        " open(sys.argv[1], 'w').write(str(p.pid)); time.sleep(600)"
    )
    told = suite.run(part(program, str(pid)), 1, 0.2, PYTHON)
    assert told["status"] == FAILED and "more than 0.2 minutes" in told["error"]
    end = time.monotonic() + 30
    while psutil.pid_exists(int(pid.read_text())) and time.monotonic() < end:
        if psutil.Process(int(pid.read_text())).status() == psutil.STATUS_ZOMBIE:
            break
        time.sleep(0.1)
    assert time.monotonic() < end


def test_every_part_is_a_command_that_exists_and_is_measured_on_all_data(tmp_path):
    from vggt3_ros.cli.main import build_parser

    data = {"apartment": tmp_path / "apartment", "kitchen": tmp_path / "kitchen"}
    for quick in (False, True):
        chosen = parts(data, quick)
        for one in chosen:
            build_parser().parse_args(list(one.arguments))
            assert str(tmp_path) not in one.setting
        names = [one.name for one in chosen]
        assert len(set(names)) == len(names)
        for part_of in ("evaluate", "memory", "faults"):
            assert {f"{part_of} apartment", f"{part_of} kitchen"} <= set(names)
        assert {"network", "refusals", "rooms", "growth", "node", "restarts", "session"} <= set(
            names
        )


def test_figures_of_an_evaluation_name_their_units_and_what_is_better():
    score = {
        "queries": 50,
        "median_m": None,
        "within_5cm_5deg": 0.4,
        "within_10cm_10deg": 0.5,
        "seconds_per_query": 0.2,
    }
    told = of_evaluate(
        {
            "corrected": {"ate_m": 0.01, "rotation_deg": 0.2},
            "map": {"points": 3},
            "localization": score,
            "seconds": {"loops": 3.0},
            "peak_memory_mb": 900.0,
        }
    )
    assert told["corrected ATE"].as_dict() == {"value": 0.01, "unit": "m", "better": "lower"}
    assert told["verified: median"].value is None
    assert told["verified: within 5 cm, 5 deg"].as_dict() == {
        "value": 0.4,
        "unit": "share",
        "better": "higher",
        "of": 50,
    }
    assert told["seconds loops"].unit == "s" and "map error" not in told
