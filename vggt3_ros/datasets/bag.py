"""An open rosbag2: sequential access to its messages, and random access to those already seen.
Messages that cannot be read are skipped, counted and reported.
"""

import logging
import threading
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from rosbags.interfaces import Connection

from vggt3_ros.datasets.bag_types import BagReader, Message
from vggt3_ros.datasets.rosbag_topics import TF_MESSAGE
from vggt3_ros.messages.serialized import stamp_of

SUFFIXES = (".mcap", ".db3")
_log = logging.getLogger(__name__)


def bag_paths(path: str | Path) -> list[Path]:
    """Return what to open: [path] for a bag's folder or file; the bag files in a folder without
    metadata.yaml; [] for anything else.
    """
    path = Path(path)
    if (path / "metadata.yaml").is_file() or (path.is_file() and path.suffix in SUFFIXES):
        return [path]
    return (
        sorted(file for file in path.iterdir() if file.suffix in SUFFIXES) if path.is_dir() else []
    )


@dataclass(frozen=True)
class Place:
    """Location of a message in the bag. stamp_ns: header stamp; logged_ns: time of recording."""

    stamp_ns: int
    connection: Connection
    logged_ns: int

    @property
    def topic(self) -> str:
        return self.connection.topic


class Bag:
    """An open bag whose messages can be read again by their time of recording. Thread-safe.

    refused: {topic: (number of skipped messages, the first of them and the reason)}. Raise
    ValueError if the bag cannot be opened.
    """

    def __init__(self, path: str | Path) -> None:
        self.path, self._lock = path, threading.Lock()
        self.refused: dict[str, tuple[int, str]] = {}
        try:
            self.reader = BagReader(bag_paths(path))
            self.reader.open()
        except Exception as error:
            # on a damaged file, rosbags raises whatever its storage library does
            raise ValueError(f"{path} cannot be opened as a rosbag2: {error}") from error

    def messages(self, topics: Collection[str | None]) -> Iterator[tuple[Place, bytes]]:
        """Yield the place and the bytes of every message of `topics`, in order of recording.
        Messages too short for a stamp are refused.
        """
        connections = [
            connection for connection in self.reader.connections if connection.topic in topics
        ]
        for connection, logged_ns, data in self._raw(connections) if connections else ():
            try:
                yield (
                    Place(
                        stamp_of(data) if connection.msgtype != TF_MESSAGE else logged_ns,
                        connection,
                        logged_ns,
                    ),
                    data,
                )
            except ValueError as error:
                self.refuse(Place(logged_ns, connection, logged_ns), error)

    def _raw(
        self, connections: list[Connection], start: int | None = None, stop: int | None = None
    ) -> Iterator[tuple[Connection, int, bytes]]:
        try:
            yield from self.reader.messages(connections, start, stop)
        except Exception as error:  # as above
            raise ValueError(f"{self.path} is damaged: {error}") from error

    def decode(self, place: Place, data: bytes) -> Message:
        """Decode a message. Raise ValueError naming its topic, type and time."""
        try:
            return self.reader.decode(place.connection, data)
        except Exception as error:
            # on malformed data, rosbags' generated code may raise anything
            raise ValueError(
                f"{place.topic} ({place.connection.msgtype}) at {place.stamp_ns / 1e9:.3f} s cannot be decoded: {error}"
            ) from error

    def read(self, place: Place) -> Message:
        """Read the message at a place returned by :meth:`messages`. Raise ValueError."""
        with self._lock:
            for _, _, data in self._raw([place.connection], place.logged_ns, place.logged_ns + 1):
                if stamp_of(data) == place.stamp_ns:
                    return self.decode(place, data)
        raise ValueError(
            f"{self.path}: the message on {place.topic} at {place.stamp_ns} ns no longer exists"
        )

    def refuse(self, place: Place, reason: object) -> None:
        """Record that a message is skipped. One bad message must not cost others."""
        count, first = self.refused.get(
            place.topic, (0, f"at {place.stamp_ns / 1e9:.3f} s: {reason}")
        )
        self.refused[place.topic] = count + 1, first

    def warn(self) -> None:
        """Log the messages skipped so far."""
        for topic, (count, first) in self.refused.items():
            _log.warning(
                "%s: skipped %d of the messages on %s; the first %s",
                self.path,
                count,
                topic,
                first,
            )

    def why_none(self, topic: str) -> str:
        """Say why a topic yielded nothing."""
        count, first = self.refused.get(topic, (0, ""))
        return (
            f"all {count} messages on {topic} are invalid; the first {first}"
            if count
            else f"{topic} has no messages"
        )
