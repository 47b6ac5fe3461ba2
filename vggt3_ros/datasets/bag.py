"""An open rosbag2: its messages one after the other, and again where they were found. What cannot
be read is left out, counted and named.
"""

import logging
import threading
from dataclasses import dataclass
from pathlib import Path

from rosbags.interfaces import Connection

from vggt3_ros.datasets.bag_types import BagReader
from vggt3_ros.datasets.rosbag_topics import TF_MESSAGE
from vggt3_ros.messages.serialized import stamp_of

SUFFIXES = (".mcap", ".db3")
_log = logging.getLogger(__name__)


def bag_paths(path):
    """What to open: [path] for a bag's folder or file, the files of a folder without
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
    """Where in the bag a message lies."""

    stamp_ns: int
    connection: Connection
    logged_ns: int

    @property
    def topic(self):
        return self.connection.topic


class Bag:
    """An open bag whose messages are found again by the time they were logged. Threads may share
    it.

    refused: {topic: [how many messages were left out, the first of them and why]}.
    """

    def __init__(self, path):
        self.path, self._lock, self.refused = path, threading.Lock(), {}
        try:
            self.reader = BagReader(bag_paths(path))
            self.reader.open()
        except Exception as error:
            # rosbags passes on whatever its storage raises on a damaged file
            raise ValueError(f"{path} cannot be opened as a rosbag2: {error}") from error

    def messages(self, topics):
        """(Place, bytes) of every message of `topics`, as logged; those too short for their stamp
        are refused.
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

    def _raw(self, *range_):
        try:
            yield from self.reader.messages(*range_)
        except Exception as error:  # as above
            raise ValueError(f"{self.path} is damaged: {error}") from error

    def decode(self, place, data):
        """Bytes -> message. ValueError naming topic, type and time."""
        try:
            return self.reader.decode(place.connection, data)
        except Exception as error:
            # whatever rosbags' generated code raises on what is no such message
            raise ValueError(
                f"{place.topic} ({place.connection.msgtype}) at {place.stamp_ns / 1e9:.3f} s cannot be decoded: {error}"
            ) from error

    def read(self, place):
        """The message at a place that :meth:`messages` gave."""
        with self._lock:
            for _, _, data in self._raw([place.connection], place.logged_ns, place.logged_ns + 1):
                if stamp_of(data) == place.stamp_ns:
                    return self.decode(place, data)
        raise ValueError(
            f"{self.path}: the message of {place.topic} at {place.stamp_ns} ns is gone"
        )

    def refuse(self, place, reason):
        """Leave a message out: one bad message costs no other."""
        count, first = self.refused.get(
            place.topic, (0, f"at {place.stamp_ns / 1e9:.3f} s: {reason}")
        )
        self.refused[place.topic] = count + 1, first

    def warn(self):
        """Say what was left out so far."""
        for topic, (count, first) in self.refused.items():
            _log.warning(
                "%s: %d of the messages on %s are left out; the first %s",
                self.path,
                count,
                topic,
                first,
            )

    def why_none(self, topic):
        """What is wrong with a topic that gave nothing, in words."""
        count, first = self.refused.get(topic, (0, ""))
        return (
            f"all {count} messages on {topic} are bad; the first {first}"
            if count
            else f"{topic} holds no message"
        )
