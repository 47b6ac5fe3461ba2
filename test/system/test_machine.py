"""What a measurement was made on, as it is told."""

import os
import subprocess

import torch
from folders import ROOT

from vggt3_ros.system import machine
from vggt3_ros.system.version import VERSION


def test_it_tells_this_machine_and_what_runs_on_it():
    told = machine.describe()
    assert told["cores"] == len(os.sched_getaffinity(0)) and told["cpu"].strip()
    assert told["libraries"]["torch"] == torch.__version__ and told["version"] == VERSION
    assert told["load"] >= 0 and told["memory_gb"] > 0.1
    assert set(machine.SAME) <= set(told)


def test_the_commit_is_that_of_the_checkout():
    told = machine.describe()["commit"]
    if not (ROOT / ".git").exists():
        assert told is None
        return
    head = subprocess.run(
        ["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout
    assert head.startswith(told.removesuffix("-modified"))
