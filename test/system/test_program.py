"""A child program: its exit is described, and it ends with its owner."""

import gc
import signal
import sys
from subprocess import PIPE

import pytest
from waiting import gone, until

from vggt3_ros.system.program import Program

READER = "import sys; sys.stdin.read(); open(sys.argv[1], 'w').write('ended by itself')"
PARENT = "import subprocess, sys, time; child = subprocess.Popen(['sleep', '60']); print(child.pid, flush=True); time.sleep(60)"


def python(code, *arguments, **options):
    return Program([sys.executable, "-c", code, *arguments], **options)


@pytest.mark.parametrize(
    "code, end",
    [
        ("raise SystemExit(7)", "exit status 7"),
        ("pass", "exit status 0"),
        ("import os; os.kill(os.getpid(), 11)", "SIGSEGV"),
    ],
)
def test_its_exit_is_described_in_words(code, end):
    program = python(code)
    assert (
        program.ends_within(60)
        and program.end == end
        and program.pid is None
        and not program.killed_for_memory
    )


def test_it_may_end_by_itself_when_its_input_ends(tmp_path):
    program = python(READER, str(tmp_path / "note"), patience=60.0, stdin=PIPE)
    assert program.end == "" and not program.ends_within(0.1)
    program.close()
    assert (tmp_path / "note").read_text() == "ended by itself" and program.end == "exit status 0"
    program.close()  # once more is no error


def test_a_program_that_ignores_its_input_is_killed_with_its_children():
    program = python(PARENT, own_session=True, patience=0.1, stdout=PIPE)
    child = int(program.stdout.readline())
    program.close()
    assert program.end == "SIGKILL"
    until(lambda: gone(child))


def test_it_ends_when_it_is_garbage_collected():
    program = python("import time; time.sleep(60)")
    pid = program.pid
    del program
    gc.collect()
    until(lambda: gone(pid))


def test_its_input_is_released_before_it_is_waited_for():
    order = []
    program = python(
        "import time; time.sleep(60)", release=lambda: order.append(program.pid is not None)
    )
    program.close()
    assert order == [True] and program.end == signal.Signals.SIGKILL.name


def test_a_program_that_is_not_there_is_an_error():
    with pytest.raises(OSError):
        Program(["/no/such/program"])
