"""Report progress while iterating."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias, TypeVar

T = TypeVar("T")
Progress: TypeAlias = Callable[[str, float], object]  # progress(text, fraction)


def with_progress(items: Sequence[T], progress: Progress, text: str) -> Iterator[T]:
    """Yield each item of a sequence; progress(text, fraction) is called after each."""
    for k, item in enumerate(items):
        yield item
        progress(text, (k + 1) / len(items))
