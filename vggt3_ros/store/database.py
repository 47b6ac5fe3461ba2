"""The SQLite file behind a KeyframeStore: created, validated, migrated, read and written, with its
errors explained.
"""

import errno
import json
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from vggt3_ros.store import durable

_log = logging.getLogger(__name__)
APPLICATION_ID = 0x56473352  # "VG3R", in the file's header
# Format 2 had no public_id: a new session changed the ids of earlier keyframes. Format 1 had no
# sessions either, but a note of SEGMENTS.
FORMAT = 3
SESSION = "session"  # note: number of the session that new keyframes belong to; 0 if missing
# note: JSON list of the sessions whose odometry is in the map frame, because merging transformed it
PLACED = "placed"
# note of format 1: JSON list of the keyframes that begin a new odometry frame
SEGMENTS = "segments"
BUSY_SECONDS = 20.0  # how long one process waits while another writes
PAGE_BYTES = 8192  # an image is written in half the time of SQLite's default, 4096
LOG_BYTES = 2**24  # size of the write-ahead log at which it is merged into the file
MAX_VALUE_BYTES = 2**29  # of one image, depth map or cache entry
# pages that a backup copies and flushes at a time
COPY_PAGES = 2**24 // PAGE_BYTES
FOLDER_MODE = 0o700  # images may show private homes

SCHEMA = """
CREATE TABLE cameras (id INTEGER PRIMARY KEY, json TEXT NOT NULL UNIQUE);
CREATE TABLE keyframes (id INTEGER PRIMARY KEY, stamp_ns INTEGER NOT NULL, camera INTEGER NOT NULL REFERENCES cameras(id),
    T_odom_cam BLOB NOT NULL, covariance BLOB, session INTEGER NOT NULL DEFAULT 0, public_id INTEGER);
CREATE INDEX keyframes_by_session ON keyframes (session, stamp_ns, id);
CREATE UNIQUE INDEX keyframes_by_public_id ON keyframes (public_id);
CREATE TABLE images (id INTEGER PRIMARY KEY REFERENCES keyframes(id) ON DELETE CASCADE, image BLOB NOT NULL, image_kind TEXT NOT NULL,
    depth BLOB, depth_kind TEXT);
CREATE TABLE cache (id INTEGER NOT NULL REFERENCES keyframes(id) ON DELETE CASCADE, name TEXT NOT NULL, version TEXT NOT NULL,
    data BLOB NOT NULL, PRIMARY KEY (id, name));
CREATE TABLE notes (name TEXT PRIMARY KEY, text TEXT NOT NULL);
CREATE TABLE revision (number INTEGER NOT NULL);
INSERT INTO revision VALUES (0);
"""


Schema = list[tuple[str, str, str, str]]


def _schema(connection: sqlite3.Connection) -> Schema:
    """Return all definitions in a database. They are compared exactly, because a view or trigger in
    a foreign file would run with our permissions.
    """
    return sorted(
        connection.execute(
            "SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_master"
        ).fetchall()
    )


def _schema_of(script: str) -> Schema:
    with closing(sqlite3.connect(":memory:")) as empty:
        empty.executescript(script)
        return _schema(empty)


_WITHOUT_PUBLIC_ID = SCHEMA.replace(", public_id INTEGER)", ")").replace(
    "CREATE UNIQUE INDEX keyframes_by_public_id ON keyframes (public_id);\n", ""
)
SCHEMAS = {
    3: _schema_of(SCHEMA),
    2: _schema_of(_WITHOUT_PUBLIC_ID),
    1: _schema_of(
        _WITHOUT_PUBLIC_ID.replace(", session INTEGER NOT NULL DEFAULT 0", "").replace(
            "keyframes_by_session ON keyframes (session, stamp_ns, id)",
            "keyframes_by_stamp ON keyframes (stamp_ns, id)",
        )
    ),
}


class StoreError(ValueError):
    """The folder or its database cannot be used; the message says why."""


class Database:
    """Open `folder`/keyframes.db, created if missing. Threads may share the object, processes the
    file.

    format: of the file. An older file is migrated, with a warning in the log, unless it is opened
    read-only. Raises StoreError if the file is damaged, newer than this version or not ours;
    nothing is overwritten then.
    """

    def __init__(self, folder: str | Path, read_only: bool) -> None:
        self.folder, self.read_only = Path(folder), read_only
        self.lock = threading.RLock()
        path = self.folder / "keyframes.db"
        with explained(path):
            if read_only:
                # Without a write-ahead log nobody is writing. The file is then immutable, which
                # lets SQLite read it in a folder without write permission.
                alone = "" if Path(f"{path}-wal").exists() else "&immutable=1"
                self._uri = f"{path.resolve().as_uri()}?mode=ro{alone}"
                self.connection = self._connect(self._uri)
            else:
                durable.make_folder(self.folder, FOLDER_MODE)
                for part in (self.folder, path):
                    if part.exists() and not os.access(part, os.W_OK):
                        raise StoreError(
                            f"keyframe store {part} is read-only for this user{WRITABLE}"
                        )
                self._uri = path.resolve().as_uri()
                self.connection = self._connect(self._uri)
            try:
                self._open(path)
            except BaseException:
                self.connection.close()
                raise

    @staticmethod
    def _connect(uri: str) -> sqlite3.Connection:
        connection = sqlite3.connect(
            uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
        return connection

    def _open(self, path: Path) -> None:
        connection = self.connection
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
        if application != APPLICATION_ID and not (application == 0 and empty):
            raise StoreError(f"{path} is a database of another program; choose another folder")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if not empty and version not in SCHEMAS:
            raise StoreError(
                f"{path} has format {version}; this version of vggt3_ros reads 1 to {FORMAT}: "
                "choose another folder, or use the version that wrote it"
            )
        if not empty and _schema(connection) != SCHEMAS[version]:
            raise StoreError(
                f"{path} has tables, views or triggers that this version does not create: it is damaged, or of another program"
            )
        self.format = version if self.read_only else FORMAT
        if self.read_only:
            if empty:
                raise StoreError(f"{path} holds no keyframes")
            return
        if empty:
            connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA wal_autocheckpoint={LOG_BYTES // PAGE_BYTES}")
        # shrink a log that has grown while a map was saved
        connection.execute(f"PRAGMA journal_size_limit={LOG_BYTES}")
        with self.writing():
            if connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
                for statement in filter(str.strip, SCHEMA.split(";")):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version={FORMAT}")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version == 1:
                self._add_sessions()
            if version < FORMAT:
                self._add_public_ids()
                connection.execute(f"PRAGMA user_version={FORMAT}")
        durable.sync(self.folder)
        if version < FORMAT:
            _log.warning(
                "keyframe store %s: migrated from format %d to %d; earlier versions of vggt3_ros cannot open it any more",
                path,
                version,
                FORMAT,
            )

    def _add_public_ids(self) -> None:
        """Migrate from format 2: every keyframe keeps its current id as public id."""
        self.connection.execute("ALTER TABLE keyframes ADD COLUMN public_id INTEGER")
        self.connection.execute("UPDATE keyframes SET public_id=id")
        self.connection.execute(
            "CREATE UNIQUE INDEX keyframes_by_public_id ON keyframes (public_id)"
        )

    def _add_sessions(self) -> None:
        """Migrate from format 1: its segments become sessions, the last one the current session."""
        rows = self.rows("SELECT id FROM keyframes ORDER BY stamp_ns, id")
        sessions = self.segments([row[0] for row in rows])
        self.connection.execute(
            "ALTER TABLE keyframes ADD COLUMN session INTEGER NOT NULL DEFAULT 0"
        )
        self.connection.executemany(
            "UPDATE keyframes SET session=? WHERE id=?",
            [(s, row[0]) for s, row in zip(sessions, rows)],
        )
        self.connection.execute("DROP INDEX keyframes_by_stamp")
        self.connection.execute(
            "CREATE INDEX keyframes_by_session ON keyframes (session, stamp_ns, id)"
        )
        self.connection.execute("DELETE FROM notes WHERE name=?", (SEGMENTS,))
        running = max(sessions, default=0)
        for name, text in ((SESSION, str(running)), (PLACED, json.dumps(list(range(running))))):
            self.connection.execute("INSERT OR REPLACE INTO notes VALUES (?,?)", (name, text))

    def column(self, name: str) -> str:
        """Return the SQL for a column of the keyframes table, or its substitute in a file of an
        older format.
        """
        return {
            "session": name if self.format > 1 else "id*0",
            "public_id": name if self.format > 2 else "id",
        }[name]

    def segments(self, ids: Sequence[int]) -> list[int]:
        """Return the session of each keyframe, ordered by stamp, from the note of format 1."""
        note = self.rows("SELECT text FROM notes WHERE name=?", SEGMENTS)
        starts = set(json.loads(note[0][0])) if note else set()
        begins = [k > 0 and id in starts for k, id in enumerate(ids)]
        return [int(session) for session in np.cumsum(begins)]

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Return all rows of a query."""
        with self.lock, explained(self.folder):
            return self.connection.execute(query, values).fetchall()

    @contextmanager
    def writing(
        self, synced: bool = True, foreign_keys: bool = True
    ) -> Iterator[sqlite3.Connection]:
        """Run one transaction on the yielded connection: committed at the end, rolled back on an
        exception.

        synced: flushed to the disk when it ends, so that it survives a power cut; without, the
        most recent transactions may be lost, but the file stays consistent. foreign_keys: turned
        off, images may be inserted before their keyframes.
        """
        with self.lock, explained(self.folder):
            # Both are settings of the connection and cannot be changed within a transaction.
            self.connection.execute(f"PRAGMA synchronous={'FULL' if synced else 'NORMAL'}")
            self.connection.execute(f"PRAGMA foreign_keys={'ON' if foreign_keys else 'OFF'}")
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise

    def backup(self, folder: str | Path, progress: Callable[[], object] = lambda: None) -> None:
        """Write a consistent copy into another folder, without blocking other readers and writers.

        It reads the state at its beginning on a connection of its own. The copy is flushed in
        pieces, so that the write of a keyframe never waits for a flush of the whole. progress() is
        called after each piece.
        """
        path = Path(folder) / "keyframes.db"

        def copied(status: int, remaining: int, total: int) -> None:
            durable.sync(path)
            progress()

        with (
            explained(folder),
            closing(self._connect(self._uri)) as source,
            closing(sqlite3.connect(path)) as copy,
        ):
            copy.execute("PRAGMA synchronous=OFF")
            source.execute("BEGIN")
            # the first read fixes the state that the transaction sees
            source.execute("SELECT number FROM revision").fetchone()
            source.backup(copy, pages=COPY_PAGES, progress=copied)

    def close(self) -> None:
        """Close the connection."""
        with self.lock:
            self.connection.close()


FULL, WRITABLE = "; free space on its disk", "; make it writable, or choose another folder"
HINTS = {13: FULL, 10: "; is its disk full or failing?"}  # SQLITE_FULL, SQLITE_IOERR
FILE_HINTS = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    errno.EROFS: WRITABLE,
    errno.EACCES: WRITABLE,
    errno.EPERM: WRITABLE,
    **dict.fromkeys((errno.EEXIST, errno.ENOTDIR), "; choose another folder"),
}


@contextmanager
def explained(path: str | Path) -> Iterator[None]:
    """Turn errors of SQLite and the file system into StoreError with a hint what to do."""
    try:
        yield
    except sqlite3.Error as error:
        hint = HINTS.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, "")
        raise StoreError(f"keyframe store {path}: {error}{hint}") from error
    except OSError as error:
        raise StoreError(
            f"keyframe store {path}: {error.strerror or error}{FILE_HINTS.get(error.errno or 0, '')}"
        ) from error
