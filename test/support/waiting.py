"""Waiting for what another thread or process does."""

import time

import psutil


def until(condition, seconds=20.0):
    """The first true value of condition()."""
    limit = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.01)
    return value


def gone(pid):
    """Whether the process has ended, even if nobody has waited for it yet."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
