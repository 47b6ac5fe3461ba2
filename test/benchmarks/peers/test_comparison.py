"""Contenders that fail, break, die or hang give a row that says so, and the others go on; all of
them see the same.
"""

import os

import given_scene
import psutil
import pytest
import stand_in_contenders
from folders import python_path

from vggt3_ros.benchmarks.peers.comparison import rows
from vggt3_ros.benchmarks.peers.contenders import Contender
from vggt3_ros.benchmarks.peers.table import table

LIMIT = 60.0  # seconds; a process that answers at once takes about two


def contender(name, **settings):
    return Contender(name, name, f"stand_in_contenders:{name}", settings)


@pytest.fixture
def compared(tmp_path, monkeypatch):
    """compared(contenders, limit) -> {name: row}."""
    monkeypatch.setenv("PYTHONPATH", python_path())
    given, truth = given_scene.make(tmp_path / "scene")

    def compare(contenders, limit=LIMIT):
        found = rows(given, truth, contenders, tmp_path / "work", limit, logs=tmp_path / "logs")
        return {row["contender"]: row for row in found}

    compare.given = given
    return compare


def test_one_that_fails_says_why_and_the_next_one_runs(compared, tmp_path):
    names = "fails", "breaks", "dies", "answers_nonsense", "knows"
    found = compared([contender(name) for name in names])
    assert tuple(found) == names
    assert "no feature was found in any image" in found["fails"]["failure"]
    assert "nothing_of_the_kind" in found["breaks"]["failure"]
    assert "SIGABRT" in found["dies"]["failure"]
    assert "cannot be scored" in found["answers_nonsense"]["failure"]
    assert "failure" not in found["knows"] and found["knows"]["ate_m"] < 1e-9
    text = table(found.values())
    assert text.count("failed, see below") == 4 and "- fails: no feature was found" in text
    assert "Traceback" in (tmp_path / "logs" / "noise-breaks.log").read_text()
    assert not list((tmp_path / "work").iterdir())


def test_one_that_hangs_is_ended_with_its_children(compared, tmp_path):
    told = tmp_path / "child"
    found = compared([contender("hangs", told=str(told))], limit=15.0)
    assert "time limit of 15 s" in found["hangs"]["failure"]
    assert found["hangs"]["process_seconds"] >= 15
    child = int(told.read_text())
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE
    assert "knows" in compared([contender("knows")])


def test_a_library_that_is_missing_is_named(compared):
    found = compared([Contender("absent", "absent", "no_such_library_anywhere:contend")])
    assert "no_such_library_anywhere is not installed" in found["absent"]["failure"]


def test_the_memory_of_children_counts(compared):
    found = compared([contender("knows"), contender("fills_memory_in_a_child", megabytes=400)])
    more = found["fills_memory_in_a_child"]["peak_memory_mb"] - found["knows"]["peak_memory_mb"]
    assert 380 < more < 600


def test_everyone_sees_the_same_images(compared):
    both = [
        Contender(name, name, "stand_in_contenders:knows", {}, name == "posed")
        for name in ("first", "second", "posed")
    ]
    notes = {row["note"] for row in compared(both).values()}
    assert notes == {stand_in_contenders.seen(compared.given)}
    assert os.listdir(compared.given.folder).count("truth.npy") == 0
