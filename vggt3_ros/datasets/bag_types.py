"""Message types of a bag. Only types that are decoded need a definition; a standard one may be
missing from the bag.

rosbags requires every definition in a bag to be complete before it opens the bag. Bags often
contain unused topics from packages that the recorder could not find; rosbag2 then stores "unknown"
and no definition.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any, TypeAlias

import apsw
from rosbags.highlevel import AnyReader
from rosbags.interfaces import Connection, MessageDefinition, MessageDefinitionFormat
from rosbags.rosbag2 import storage_mcap
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

# A message as rosbags decodes it. Its class is generated at run time: there is no static type.
Message: TypeAlias = Any
# A definition in rosbags' form: nested tuples of constants and fields.
Fields: TypeAlias = Any
SEPARATOR = "=" * 80 + "\n"
_opening = threading.Lock()


class BagReader(AnyReader):
    """An AnyReader that resolves a type only when a message of it is decoded. `connections` is
    available once it is open.
    """

    _typestores: dict[tuple[str, MessageDefinition], Typestore]

    def _open(self) -> None:
        assert self.stack is not None  # open() makes it first
        with _unknown_encodings():
            for reader in self.readers:
                self.stack.enter_context(reader)
        self.connections = [
            connection for reader in self.readers for connection in reader.connections
        ]
        self._typestores = {}

    def decode(self, connection: Connection, data: bytes) -> Message:
        """Decode a message. Raise ValueError if the bag's definition does not match its type, and
        whatever rosbags raises.
        """
        key = connection.msgtype, connection.msgdef
        if key not in self._typestores:
            self._typestores[key] = _typestore(connection)
        return self._typestores[key].deserialize_cdr(data, connection.msgtype)


def _typestore(connection: Connection) -> Typestore:
    """Return a type store with the type of a connection, from the bag's definition and, for types
    missing there, the standard ones.
    """
    own = _definitions(connection)
    types: dict[str, Fields] = {}
    wanted = [connection.msgtype]
    while wanted:
        name = wanted.pop()
        if name in types:
            continue
        fields = own[name] if name in own else _standard().get(name)
        if fields is None:
            raise ValueError(
                f"the bag has no definition of {name}: its package was not installed on the recording machine"
            )
        types[name] = fields
        wanted += _named_in(fields)
    store = get_typestore(Stores.EMPTY)
    store.register(types)
    if (
        own
        and connection.digest
        and (found := store.hash_rihs01(connection.msgtype)) != connection.digest
    ):
        raise ValueError(
            f"the definition of {connection.msgtype} in the bag does not match the recorded type hash ({found}, "
            f"{connection.digest})"
        )
    return store


@lru_cache(maxsize=1)
def _standard() -> Mapping[str, Fields]:
    """Return {type: fields} of ROS's own packages."""
    return get_typestore(Stores.ROS2_KILTED).fielddefs


def _named_in(fields: object) -> list[str]:
    """Return the message types that a definition in rosbags' form uses: nested tuples; type names
    contain slashes.
    """
    if isinstance(fields, str):
        return [fields] if fields.count("/") == 2 and " " not in fields else []
    return (
        [name for part in fields for name in _named_in(part)]
        if isinstance(fields, (tuple, list))
        else []
    )


def _definitions(connection: Connection) -> Mapping[str, Fields]:
    """Return {type: fields} of a connection's own definition; empty if it has none."""
    text = connection.msgdef.data.strip()
    if connection.msgdef.format == MessageDefinitionFormat.NONE or not text:
        return {}
    if connection.msgdef.format == MessageDefinitionFormat.MSG:
        return get_types_from_msg(connection.msgdef.data, connection.msgtype)
    if not connection.msgdef.data.startswith(f"{SEPARATOR}IDL: "):
        return get_types_from_idl(connection.msgdef.data)
    types: dict[str, Fields] = {}
    for part in connection.msgdef.data.split(SEPARATOR)[1:]:
        types.update(get_types_from_idl(part.split("\n", 1)[1]))
    return types


@contextmanager
def _unknown_encodings() -> Iterator[None]:
    """Within this context, let rosbags open bags whose definitions have unknown encodings, as if
    those were missing.
    """
    strict = storage_mcap.get_msgdef

    def tolerant(schema: storage_mcap.Schema | None) -> MessageDefinition:
        try:
            return strict(schema)
        except KeyError:
            return MessageDefinition(MessageDefinitionFormat.NONE, "")

    with _opening:
        storage_mcap.get_msgdef = tolerant
        apsw.connection_hooks.append(_hide_unknown)
        try:
            yield
        finally:
            storage_mcap.get_msgdef = strict
            apsw.connection_hooks.remove(_hide_unknown)


def _hide_unknown(database: apsw.Connection) -> None:
    """Hide definitions with unknown encodings from this connection to an SQLite file."""
    # an old bag has no such table; the reader reports a damaged one
    with suppress(apsw.Error):
        database.execute(
            "CREATE TEMP VIEW message_definitions AS SELECT * FROM main.message_definitions WHERE encoding IN ('ros2msg', 'ros2idl')"
        )
