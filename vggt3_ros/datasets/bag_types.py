"""What the messages of a bag are made of: only types that are read need a definition, and a
standard one may lack its own.

rosbags wants every definition in a bag to be whole before it opens it. Bags have topics that
nobody asks for, of packages that the recorder could not find: rosbag2 then writes "unknown" and no
text.
"""

import threading
from contextlib import contextmanager, suppress
from functools import lru_cache

import apsw
from rosbags.highlevel import AnyReader
from rosbags.interfaces import MessageDefinition, MessageDefinitionFormat
from rosbags.rosbag2 import storage_mcap
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore

SEPARATOR = "=" * 80 + "\n"
_opening = threading.Lock()


class BagReader(AnyReader):
    """An AnyReader that looks at a type when a message of it is decoded. `connections` are there
    once it is open.
    """

    def _open(self):
        with _unknown_encodings():
            for reader in self.readers:
                self.stack.enter_context(reader)
        self.connections = [
            connection for reader in self.readers for connection in reader.connections
        ]
        self._typestores = {}

    def decode(self, connection, data):
        """Bytes -> message. Raises what rosbags does, and ValueError where the bag's definition is
        not that of the type it names.
        """
        key = connection.msgtype, connection.msgdef
        if key not in self._typestores:
            self._typestores[key] = _typestore(connection)
        return self._typestores[key].deserialize_cdr(data, connection.msgtype)


def _typestore(connection):
    """Knows the type of a connection: by the bag's definition, what that leaves out by the
    standard ones.
    """
    own = _definitions(connection)
    types, wanted = {}, [connection.msgtype]
    while wanted:
        name = wanted.pop()
        if name in types:
            continue
        types[name] = own[name] if name in own else _standard().get(name)
        if types[name] is None:
            raise ValueError(
                f"the bag holds no definition of {name}: it was recorded where that package was not installed"
            )
        wanted += _named_in(types[name])
    store = get_typestore(Stores.EMPTY)
    store.register(types)
    if (
        own
        and connection.digest
        and (found := store.hash_rihs01(connection.msgtype)) != connection.digest
    ):
        raise ValueError(
            f"the definition of {connection.msgtype} in the bag is another one than it was recorded with ({found}, "
            f"{connection.digest})"
        )
    return store


@lru_cache(maxsize=1)
def _standard():
    """{type: fields} of ROS's own packages."""
    return get_typestore(Stores.ROS2_KILTED).fielddefs


def _named_in(fields):
    """The message types in a definition as rosbags keeps it: tuples in tuples, names with
    slashes.
    """
    if isinstance(fields, str):
        return [fields] if fields.count("/") == 2 and " " not in fields else []
    return (
        [name for part in fields for name in _named_in(part)]
        if isinstance(fields, (tuple, list))
        else []
    )


def _definitions(connection):
    """{type: fields} of a connection's own definition, empty where it has none."""
    text = connection.msgdef.data.strip()
    if connection.msgdef.format == MessageDefinitionFormat.NONE or not text:
        return {}
    if connection.msgdef.format == MessageDefinitionFormat.MSG:
        return get_types_from_msg(connection.msgdef.data, connection.msgtype)
    if not connection.msgdef.data.startswith(f"{SEPARATOR}IDL: "):
        return get_types_from_idl(connection.msgdef.data)
    types = {}
    for part in connection.msgdef.data.split(SEPARATOR)[1:]:
        types.update(get_types_from_idl(part.split("\n", 1)[1]))
    return types


@contextmanager
def _unknown_encodings():
    """While this lasts, rosbags opens bags with definitions of encodings that it does not know, as
    if those were missing.
    """
    strict = storage_mcap.get_msgdef

    def tolerant(schema):
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


def _hide_unknown(database):
    """Definitions of encodings that rosbags does not know are not there for this connection to an
    SQLite file.
    """
    # an old bag has no such table; a damaged one is told of by its reader
    with suppress(apsw.Error):
        database.execute(
            "CREATE TEMP VIEW message_definitions AS SELECT * FROM main.message_definitions WHERE encoding IN ('ros2msg', 'ros2idl')"
        )
