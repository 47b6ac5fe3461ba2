"""The values used last, as many as fit into a number of bytes."""

from collections import OrderedDict


class BoundedCache:
    """limit: bytes; the newest value is held even where it alone is larger. Not thread-safe."""

    def __init__(self, limit):
        self.limit, self.nbytes, self._held = limit, 0, OrderedDict()

    def __len__(self):
        return len(self._held)

    def values(self):
        """Of all that is held, the one used last at the end."""
        return [value for value, _ in self._held.values()]

    def get(self, key):
        """The value, from now on the one used last; None where it is not held."""
        if key not in self._held:
            return None
        self._held.move_to_end(key)
        return self._held[key][0]

    def put(self, key, value, nbytes):
        """Hold a value of so many bytes in place of the one before; those not used for longest
        go.
        """
        self.pop(key)
        self._held[key] = value, nbytes
        self.nbytes += nbytes
        while self.nbytes > self.limit and len(self._held) > 1:
            self.pop(next(iter(self._held)))

    def pop(self, key):
        """Let a value go, if it is held."""
        self.nbytes -= self._held.pop(key, (None, 0))[1]

    def clear(self):
        self._held.clear()
        self.nbytes = 0
