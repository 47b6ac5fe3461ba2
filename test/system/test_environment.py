"""The process environment: missing settings are added, others are kept, a process restarts once,
and a child does not outlive its parent.
"""

import os
import subprocess
import sys

import pytest
from waiting import gone, until

from vggt3_ros.system import environment


@pytest.fixture
def jemalloc(tmp_path, monkeypatch):
    (tmp_path / "libjemalloc.so.2").touch()
    monkeypatch.setattr(environment, "FOLDERS", ("/nonexistent", str(tmp_path)))
    return str(tmp_path / "libjemalloc.so.2")


def test_missing_settings_are_added_and_jemalloc_goes_first(jemalloc):
    base = {"HOME": "/root", "LD_PRELOAD": "libother.so"}
    assert environment.worker_environment(base) == {
        "HOME": "/root",
        "OMP_WAIT_POLICY": "PASSIVE",
        "OPENBLAS_NUM_THREADS": "1",
        "LD_PRELOAD": f"{jemalloc} libother.so",
        "MALLOC_CONF": "dirty_decay_ms:-1,muzzy_decay_ms:-1",
    }
    assert base == {"HOME": "/root", "LD_PRELOAD": "libother.so"}
    assert environment.worker_environment({})["LD_PRELOAD"] == jemalloc


def test_settings_of_the_user_are_kept(jemalloc):
    own = {
        "OMP_WAIT_POLICY": "ACTIVE",
        "OPENBLAS_NUM_THREADS": "4",
        "LD_PRELOAD": "/opt/libjemalloc.so.1",
        "MALLOC_CONF": "narenas:1",
    }
    assert environment.worker_environment(own) == own


def test_without_jemalloc_nothing_is_preloaded(monkeypatch):
    monkeypatch.setattr(environment, "FOLDERS", ("/nonexistent",))
    assert not {"LD_PRELOAD", "MALLOC_CONF"} & set(environment.worker_environment({}))


def test_foreign_programs_run_without_our_allocator(monkeypatch):
    monkeypatch.setenv("LD_PRELOAD", "libjemalloc.so.2")
    monkeypatch.setenv("MALLOC_CONF", "x:1")
    monkeypatch.setenv("KEPT", "1")
    foreign = environment.foreign_environment()
    assert not {"LD_PRELOAD", "MALLOC_CONF"} & set(foreign) and foreign["KEPT"] == "1"


def test_a_process_without_the_settings_restarts_once_with_the_same_command_line():
    code = (
        "import os, sys; print(os.environ.get('OPENBLAS_NUM_THREADS'), sys.argv[1:], flush=True);"
        "from vggt3_ros.system.environment import restart_with_settings; restart_with_settings();"
        "print('done')"
    )
    bare = {
        name: value
        for name, value in environment.foreign_environment().items()
        if name not in ("OMP_WAIT_POLICY", "OPENBLAS_NUM_THREADS")
    }
    printed = subprocess.run(
        [sys.executable, "-c", code, "a b"], env=bare, capture_output=True, text=True, check=True
    ).stdout
    assert printed.splitlines() == ["None ['a b']", "1 ['a b']", "done"]


def test_a_child_is_killed_when_its_parent_ends():
    child = (
        "import time; from vggt3_ros.system.environment import end_with_parent; end_with_parent();"
        "print(1, flush=True); time.sleep(600)"
    )
    parent = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}], stdout=subprocess.PIPE)\n"
        "child.stdout.readline(); print(child.pid, flush=True)"
    )
    printed = subprocess.run(
        [sys.executable, "-c", parent], capture_output=True, text=True, check=True
    ).stdout
    until(lambda: gone(int(printed)))


def test_python_switches_threads_sooner():
    before = sys.getswitchinterval()
    try:
        environment.shorten_switch_interval()
        assert sys.getswitchinterval() == pytest.approx(environment.SWITCH_SECONDS)
    finally:
        sys.setswitchinterval(before)


def test_the_shell_sets_the_same():
    from folders import ROOT

    script = (ROOT / "scripts" / "environment.sh").read_text()
    assert environment.MALLOC_CONF in script
    assert f"OMP_WAIT_POLICY:-{environment.OMP_WAIT_POLICY}" in script
    assert f"OPENBLAS_NUM_THREADS:-{environment.OPENBLAS_NUM_THREADS}" in script
    assert os.path.isabs(environment.FOLDERS[0])
