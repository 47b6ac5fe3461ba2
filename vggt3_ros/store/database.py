"""The SQLite file behind a KeyframeStore: made, recognised, brought up to date, read and written;
its errors in words.
"""

import errno
import json
import logging
import os
import sqlite3
import threading
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from vggt3_ros.store import durable

_log = logging.getLogger(__name__)
APPLICATION_ID = 0x56473352  # "VG3R", in the file's header
# 2 had no public_id: a new session gave the keyframes before it other ids. 1 had no sessions
# either, but a note of SEGMENTS
FORMAT = 3
SESSION = "session"  # note: number of the session that new keyframes belong to; 0 without
# note: JSON list of sessions whose odometry is in the map's frame, as merging put them there
PLACED = "placed"
# note of format 1: JSON list of the keyframes that begin a stretch of odometry of their own
SEGMENTS = "segments"
BUSY_SECONDS = 20.0  # how long one process waits while another writes
PAGE_BYTES = 8192  # an image is written in half the time that SQLite's 4096 take
LOG_BYTES = 2**24  # of the write-ahead log, before it goes into the file
MAX_VALUE_BYTES = 2**29  # of one image, depth map or cache entry
# that a backup copies at a time, and has on the disk before it goes on
COPY_PAGES = 2**24 // PAGE_BYTES
FOLDER_MODE = 0o700  # images show where people live

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


def _schema(connection):
    """What a database consists of, to the letter: a view or a trigger in a foreign one would run
    with our rights.
    """
    return sorted(
        connection.execute(
            "SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_master"
        ).fetchall()
    )


def _schema_of(script):
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
    """The folder or its database cannot be used; the text says why."""


class Database:
    """`folder`/keyframes.db, created when missing. Threads may share it, and processes the file.

    format: of the file; an older one that is only read stays as it is, else it is brought up to
    date, which the log says. Raises StoreError when the file is damaged, newer than this version
    or not ours; nothing is then overwritten.
    """

    def __init__(self, folder, read_only):
        self.folder, self.read_only = Path(folder), read_only
        self.lock = threading.RLock()
        path = self.folder / "keyframes.db"
        with explained(path):
            if read_only:
                # Without a write-ahead log beside it nobody is writing: then a folder that cannot
                # be written to is readable too.
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
    def _connect(uri):
        connection = sqlite3.connect(
            uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
        return connection

    def _open(self, path):
        connection = self.connection
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
        if application != APPLICATION_ID and not (application == 0 and empty):
            raise StoreError(f"{path} is a database of another program; choose another folder")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if not empty and version not in SCHEMAS:
            raise StoreError(
                f"{path} has format {version}, this version of vggt3_ros reads 1 to {FORMAT}: "
                "choose another folder, or the version that wrote it"
            )
        if not empty and _schema(connection) != SCHEMAS[version]:
            raise StoreError(
                f"{path} has tables, views or triggers that this version does not make: it is damaged, or not ours"
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
        # a log that grew while a map was saved shrinks again
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
                "keyframe store %s: brought from format %d to %d; earlier versions of vggt3_ros no longer open it",
                path,
                version,
                FORMAT,
            )

    def _add_public_ids(self):
        """From format 2: ids are what they were at that moment, and stay."""
        self.connection.execute("ALTER TABLE keyframes ADD COLUMN public_id INTEGER")
        self.connection.execute("UPDATE keyframes SET public_id=id")
        self.connection.execute(
            "CREATE UNIQUE INDEX keyframes_by_public_id ON keyframes (public_id)"
        )

    def _add_sessions(self):
        """From format 1: what its note of segments says becomes sessions, the last one the running
        one.
        """
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

    def column(self, name):
        """`name` of the keyframes table, or what stands for it in a file of an older format."""
        return {
            "session": name if self.format > 1 else "id*0",
            "public_id": name if self.format > 2 else "id",
        }[name]

    def segments(self, ids):
        """Session of each keyframe, in the order of their stamps, by the note of format 1."""
        note = self.rows("SELECT text FROM notes WHERE name=?", SEGMENTS)
        starts = set(json.loads(note[0][0])) if note else set()
        return np.cumsum([k > 0 and id in starts for k, id in enumerate(ids)]).astype(int).tolist()

    def rows(self, query, *values):
        """All rows that a query finds."""
        with self.lock, explained(self.folder):
            return self.connection.execute(query, values).fetchall()

    @contextmanager
    def writing(self, synced=True, foreign_keys=True):
        """One transaction, all or nothing, on the connection it gives.

        synced: on the disk when it ends, so that a power cut does not take it; else it may, for a
        moment, with what is written later alone. foreign_keys: off, images may come before their
        keyframes.
        """
        with self.lock, explained(self.folder):
            # Both hold for the connection, and cannot be set within a transaction.
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

    def backup(self, folder, progress=lambda: None):
        """Write a consistent copy into another folder. Nobody waits for it: it reads on a
        connection of its own, the state at its beginning, and has what it wrote on the disk piece
        by piece, lest the next keyframe's turn come after all of it. progress() is called between
        pieces.
        """
        path = Path(folder) / "keyframes.db"

        def copied(status, remaining, total):
            durable.sync(path)
            progress()

        with (
            explained(folder),
            closing(self._connect(self._uri)) as source,
            closing(sqlite3.connect(path)) as copy,
        ):
            copy.execute("PRAGMA synchronous=OFF")
            source.execute("BEGIN")
            # reads, and so holds, this state
            source.execute("SELECT number FROM revision").fetchone()
            source.backup(copy, pages=COPY_PAGES, progress=copied)

    def close(self):
        with self.lock:
            self.connection.close()


FULL, WRITABLE = "; make room on its disk", "; make it writable, or choose another folder"
HINTS = {13: FULL, 10: "; is its disk full, or failing?"}  # SQLITE_FULL, SQLITE_IOERR
FILE_HINTS = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    errno.EROFS: WRITABLE,
    errno.EACCES: WRITABLE,
    errno.EPERM: WRITABLE,
    **dict.fromkeys((errno.EEXIST, errno.ENOTDIR), "; choose another folder"),
}


@contextmanager
def explained(path):
    """sqlite3 and file errors as StoreError."""
    try:
        yield
    except sqlite3.Error as error:
        hint = HINTS.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, "")
        raise StoreError(f"keyframe store {path}: {error}{hint}") from error
    except OSError as error:
        raise StoreError(
            f"keyframe store {path}: {error.strerror or error}{FILE_HINTS.get(error.errno, '')}"
        ) from error
