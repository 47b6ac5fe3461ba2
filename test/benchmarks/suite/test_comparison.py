"""What a comparison calls worse, and what it does not."""

import copy
import json
import math

import pytest

from vggt3_ros.benchmarks.suite.comparison import (
    BETTER,
    LOST,
    SAME_WITHIN,
    UNJUDGED,
    WORSE,
    compare,
    load,
)
from vggt3_ros.cli.main import main

MACHINE = {"cpu": "a", "cores": 4, "gpu": None, "memory_gb": 16.0}


def figure(value, unit="m", better="lower", values=None, **more):
    return {"value": value, "unit": unit, "better": better, "values": values or [value], **more}


def run(figures, **more):
    part = {"status": "passed", "setting": "evaluate PATH", "others": 0.0, "figures": figures}
    return {
        "format": 1,
        "quick": False,
        "machine": dict(MACHINE),
        "begun": "",
        "parts": {"evaluate": part | more},
    }


def only(a, b):
    (row,) = compare(a, b)
    return row


def judged(before, after):
    return only(run({"it": before}), run({"it": after}))


@pytest.mark.parametrize(
    "unit, better, a, b, verdict",
    [
        ("m", "lower", 0.010, 0.0103, SAME_WITHIN),
        ("m", "lower", 0.010, 0.011, WORSE),
        ("m", "lower", 0.010, 0.009, BETTER),
        ("1/s", "higher", 100.0, 80.0, WORSE),
        ("1/s", "higher", 100.0, 95.0, SAME_WITHIN),
        ("s", "lower", 10.0, 11.0, SAME_WITHIN),
        ("s", "lower", 10.0, 12.0, WORSE),
        ("1", "lower", 0, 0, SAME_WITHIN),
        ("1", "lower", 0, 1, WORSE),
        ("1", "lower", 1, 0, BETTER),
    ],
)
def test_ratios_beyond_the_floor_count(unit, better, a, b, verdict):
    row = judged(figure(a, unit, better), figure(b, unit, better))
    assert row.verdict == verdict
    assert row.ratio == (1.0 if a == b else math.inf if a == 0 else pytest.approx(b / a))


def test_repeated_runs_tell_their_own_noise():
    """A fifth more is worse of a steady figure, and nothing of one that varies so by itself."""
    steady, wild = (
        figure(10.0, "s", values=[9.9, 10.0, 10.1]),
        figure(10.0, "s", values=[8.5, 10, 11]),
    )
    assert judged(steady, figure(12.0, "s")).verdict == WORSE
    assert judged(wild, figure(12.0, "s")).verdict == SAME_WITHIN
    assert judged(wild, figure(13.0, "s")).verdict == WORSE


def test_shares_are_compared_by_how_many_they_are_of():
    """48 of 50 may well be 50 of 50 in another run; 960 of 1000 is not 1000 of 1000."""
    few = [figure(value, "share", "higher", of=50) for value in (1.0, 0.96)]
    many = [figure(value, "share", "higher", of=1000) for value in (1.0, 0.96)]
    assert judged(*few).verdict == SAME_WITHIN and judged(*many).verdict == WORSE
    assert judged(*reversed(many)).verdict == BETTER
    assert (
        judged(
            figure(0.9, "share", "higher", of=50), figure(0.0, "share", "higher", of=50)
        ).verdict
        == WORSE
    )


@pytest.mark.parametrize("change", ["machine", "busy"])
def test_timings_are_judged_only_where_the_machines_tell_the_same(change):
    figures = {"seconds": figure(10.0, "s"), "error": figure(0.01)}
    slower = {"seconds": figure(30.0, "s"), "error": figure(0.02)}
    b = run(slower, others=1.5 if change == "busy" else 0.0)
    if change == "machine":
        b["machine"]["cpu"] = "another"
    seconds, error = compare(run(figures), b)
    assert seconds.verdict == UNJUDGED and seconds.ratio == pytest.approx(3.0)
    assert ("cpu" in seconds.why) if change == "machine" else ("1.5 of 4 cores" in seconds.why)
    assert error.verdict == WORSE


def test_what_is_lost_is_not_passed_over():
    a = run({"median": figure(0.01)})
    lost = judged(figure(0.01), figure(None))
    assert lost.verdict == LOST and lost.fails(100)
    assert judged(figure(None), figure(None)).verdict == SAME_WITHIN
    assert judged(figure(None), figure(0.01)).verdict == BETTER
    failed = copy.deepcopy(a)
    failed["parts"]["evaluate"] = {"status": "failed", "error": "SIGKILL: no room"}
    row = only(a, failed)
    assert row.verdict == LOST and "no room" in row.why and row.fails(1.2)
    assert only(failed, a).verdict == BETTER and not only(failed, failed).fails(1.2)
    for other in (
        run({"median": figure(0.5)}, setting="evaluate PATH --quick"),
        {**a, "parts": {}},
    ):
        assert all(row.verdict == UNJUDGED and not row.fails(1) for row in compare(a, other))


def test_exit_status_for_ci(tmp_path, capsys):
    paths = []
    for name, value in (("a", 0.010), ("b", 0.0115), ("c", 0.013)):
        paths.append(tmp_path / f"{name}.json")
        paths[-1].write_text(json.dumps(run({"ATE": figure(value)})))
    a, b, c = map(str, paths)
    assert main(["benchmark", "compare", a, b]) == 0
    printed = capsys.readouterr().out
    assert "| evaluate | ATE | 1.00 cm | 1.15 cm | 1.150 | **worse** |" in printed
    assert "1 of 1 worse beyond noise" in printed
    assert main(["benchmark", "compare", a, b, "--fail-over", "1.2"]) == 0
    assert main(["benchmark", "compare", a, c, "--fail-over", "1.2"]) == 1
    assert "fails: evaluate, ATE" in capsys.readouterr().out
    assert main(["benchmark", "compare", c, a, "--fail-over", "1.2"]) == 0


@pytest.mark.parametrize(
    "text, why",
    [
        ("", "JSONDecodeError"),
        ("[]", "TypeError"),
        ('{"format": 2}', "format 2, this version reads 1"),
        (json.dumps(run({"it": figure("many")})), "'many' is no number"),
        (json.dumps(run({"it": figure(1.0, unit=3)})), "TypeError"),
    ],
)
def test_other_files_are_refused_by_name(tmp_path, capsys, text, why):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="is not what `vggt3 benchmark all` writes"):
        load(path)
    assert main(["benchmark", "compare", str(path), str(path)]) == 2
    assert why in capsys.readouterr().err
    assert main(["benchmark", "compare", str(tmp_path / "none.json"), str(path)]) == 2
    assert "there is no file" in capsys.readouterr().err
