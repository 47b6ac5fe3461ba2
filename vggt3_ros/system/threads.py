"""Thread pools for work made of independent pieces: pairs to verify, images to encode."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch
from threadpoolctl import threadpool_limits

# A third of the work on a pair holds the interpreter lock: more threads would only wait for it.
MAX_THREADS = 8


def count() -> int:
    """Return how many threads such work should use on this machine."""
    return max(1, min(MAX_THREADS, len(os.sched_getaffinity(0))))


@contextmanager
def pool(threads: int) -> Iterator[Callable[..., Iterator[Any]]]:
    """Yield map(function, items) -> results in the order of the items.

    The first exception cancels the items that have not begun. With one thread the work is done in
    the caller's own, lazily.
    """
    if threads == 1:
        yield map
        return
    with ThreadPoolExecutor(threads, "pieces", _use_one_core) as executor:
        try:
            yield executor.map
        except BaseException:
            executor.shutdown(wait=True, cancel_futures=True)
            raise


def _use_one_core() -> None:
    """Limit torch to one core in the calling thread: its own threads beside those of the pool
    would only compete for cores. torch.set_num_threads would affect threads started later, too.
    """
    # torch initialises its thread count in a thread on first use, which would undo the limit
    torch.get_num_threads()
    threadpool_limits(1, user_api="openmp")
