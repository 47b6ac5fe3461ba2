"""A cache of the most recently used values, bounded by their total size in bytes."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class BoundedCache(Generic[Key, Value]):
    """Least-recently-used cache of at most `limit` bytes. Not thread-safe.

    The newest value is kept even if it alone exceeds the limit.
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.nbytes = limit, 0
        self._held: OrderedDict[Key, tuple[Value, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def values(self) -> list[Value]:
        """Return all values, the most recently used last."""
        return [value for value, _ in self._held.values()]

    def get(self, key: Key) -> Value | None:
        """Return the value and mark it as the most recently used; None if it is not cached."""
        if key not in self._held:
            return None
        self._held.move_to_end(key)
        return self._held[key][0]

    def put(self, key: Key, value: Value, nbytes: int) -> None:
        """Store a value of `nbytes` bytes under `key`, replacing any previous one, and evict the
        least recently used values until the limit holds.
        """
        self.pop(key)
        self._held[key] = value, nbytes
        self.nbytes += nbytes
        while self.nbytes > self.limit and len(self._held) > 1:
            self.pop(next(iter(self._held)))

    def pop(self, key: Key) -> None:
        """Remove the value under `key`, if there is one."""
        if key in self._held:
            self.nbytes -= self._held.pop(key)[1]

    def clear(self) -> None:
        """Remove all values."""
        self._held.clear()
        self.nbytes = 0
