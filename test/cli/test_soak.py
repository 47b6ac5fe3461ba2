"""vggt3 soak: its arguments, its table and its exit status. The soak itself:
integration/test_load.py.
"""

import pytest

from vggt3_ros.cli import soak as command
from vggt3_ros.cli.main import main

benchmark = pytest.importorskip(
    "vggt3_ros.benchmarks.soak", reason="ROS 2 is not installed: scripts/setup brings it"
)


@pytest.fixture
def soaked(monkeypatch, tmp_path):
    """What soak.run was called with; it answers with `rows`."""
    called, rows = [], []

    def run(*arguments):
        called.append(arguments)
        return rows

    monkeypatch.setattr(command, "prepared", lambda arguments: ("sequence", tmp_path))
    monkeypatch.setattr(benchmark, "run", run)
    return called, rows


@pytest.mark.parametrize("met, status", [(True, 0), (None, 0), (False, 1)])
def test_one_missed_target_is_the_exit_status(soaked, tmp_path, capsys, met, status):
    called, rows = soaked
    rows += [("keyframes lost", "0 of 9", "0", True), ("age", "0.3 s", "0.2 s", met)]
    assert main(["soak", "2.5", "--rate", "4", "--seed", "7"]) == status
    assert called == [("sequence", 2.5, 4.0, tmp_path, 7)]
    text = capsys.readouterr().out
    assert "| keyframes lost | 0 of 9   | 0      | met" in text
    assert ("**missed**" in text) == (met is False)


@pytest.mark.parametrize("arguments", [["0.01"], ["1", "--rate", "0"], ["1e9"]])
def test_numbers_out_of_range_start_nothing(soaked, capsys, arguments):
    assert main(["soak", *arguments]) == 2 and not soaked[0]
    assert "minutes must be 0.1 to 100000" in capsys.readouterr().err


def test_a_node_that_is_lost_is_one_line(monkeypatch, soaked, capsys):
    def run(*arguments):
        raise RuntimeError("the back end did not start")

    monkeypatch.setattr(benchmark, "run", run)
    assert main(["soak", "1"]) == 2
    assert capsys.readouterr().err == "vggt3: the back end did not start\n"
