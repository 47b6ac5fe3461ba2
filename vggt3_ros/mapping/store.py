"""Keyframes on disk: one SQLite file, the contract between the node, the worker and the next start."""

import errno
import json
import os
import shutil
import sqlite3
import threading
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from vggt3_ros.geometry.camera import Camera
from vggt3_ros.mapping import codec
from vggt3_ros.mapping.keyframe import Keyframe

APPLICATION_ID = 0x56473352  # "VG3R", in the file's header
FORMAT = 2  # 1 had no sessions, but a note of the keyframes that begin a stretch of odometry of their own
LOADED = "loaded"  # note: the saved map that the keyframes came from
SESSION = "session"  # note: number of the session that new keyframes belong to; 0 without
PLACED = "placed"  # note: JSON list of sessions whose odometry is in the map's frame, as merging put them there
SEGMENTS = "segments"  # note of format 1
ASIDE = "set_aside"  # note: JSON {keyframe id: why it takes no part in refinements}
FIRST_ID = 2**62  # of keyframes of earlier sessions; front ends count from zero
NO_STEP = 1e4  # variance, m^2 and rad^2, of the step to the first keyframe of a session: nothing is known of it
BUSY_SECONDS = 20.0  # how long one process waits while another writes
PAGE_BYTES = 8192  # of the database: an image is written in half the time that SQLite's 4096 take
MAX_VALUE_BYTES = 2**29  # of one image, depth map or cache entry
FOLDER_MODE = 0o700  # images show where people live

SCHEMA = """
CREATE TABLE cameras (id INTEGER PRIMARY KEY, json TEXT NOT NULL UNIQUE);
CREATE TABLE keyframes (id INTEGER PRIMARY KEY, stamp_ns INTEGER NOT NULL, camera INTEGER NOT NULL REFERENCES cameras(id),
    T_odom_cam BLOB NOT NULL, covariance BLOB, session INTEGER NOT NULL DEFAULT 0);
CREATE INDEX keyframes_by_session ON keyframes (session, stamp_ns, id);
CREATE TABLE images (id INTEGER PRIMARY KEY REFERENCES keyframes(id) ON DELETE CASCADE, image BLOB NOT NULL, image_kind TEXT NOT NULL,
    depth BLOB, depth_kind TEXT);
CREATE TABLE cache (id INTEGER NOT NULL REFERENCES keyframes(id) ON DELETE CASCADE, name TEXT NOT NULL, version TEXT NOT NULL,
    data BLOB NOT NULL, PRIMARY KEY (id, name));
CREATE TABLE notes (name TEXT PRIMARY KEY, text TEXT NOT NULL);
CREATE TABLE revision (number INTEGER NOT NULL);
INSERT INTO revision VALUES (0);
"""


def _schema(connection):
    """What a database consists of, to the letter: a view or a trigger in a foreign one would run with our rights."""
    return sorted(connection.execute("SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_master").fetchall())


def _schema_of(script):
    with closing(sqlite3.connect(":memory:")) as empty:
        empty.executescript(script)
        return _schema(empty)


OUR_SCHEMA = _schema_of(SCHEMA)
SCHEMA_OF_FORMAT_1 = _schema_of(SCHEMA.replace(", session INTEGER NOT NULL DEFAULT 0", "").replace(
    "keyframes_by_session ON keyframes (session, stamp_ns, id)", "keyframes_by_stamp ON keyframes (stamp_ns, id)"))


class StoreError(ValueError):
    """The folder or its database cannot be used; the text says why."""


class DamagedKeyframe(StoreError):
    """One keyframe cannot be read; the others can."""


@dataclass(frozen=True, eq=False)
class StoredPoses:
    """All keyframes without their images, session by session, each ordered by stamp; the running one comes last.

    ids, stamps_ns (N,) int64; T_odom_cam (N, 4, 4) in the odometry frame of their session; covariances: per keyframe (6, 6) as in
    Keyframe, or None. sessions (N,) int64: a run of a front end each, with odometry of its own; one by default.
    """

    ids: np.ndarray
    stamps_ns: np.ndarray
    T_odom_cam: np.ndarray
    covariances: list
    sessions: np.ndarray | None = None

    def __post_init__(self):
        if self.sessions is None:
            object.__setattr__(self, "sessions", np.zeros(len(self.ids), np.int64))

    def __len__(self):
        return len(self.ids)

    def only(self, mask):
        """Those that `mask` (N,) chooses."""
        return StoredPoses(self.ids[mask], self.stamps_ns[mask], self.T_odom_cam[mask],
                           [c for c, chosen in zip(self.covariances, mask) if chosen], self.sessions[mask])


class KeyframeStore:
    """The keyframes in `folder`/keyframes.db, created when missing. Threads and processes may share a folder.

    What :meth:`put` acknowledged survives a kill of the process at any moment; a power cut may take the last seconds, never more.
    Raises StoreError when the database is damaged, newer than this version or not ours; nothing is then overwritten.
    """

    def __init__(self, folder, read_only=False):
        self.folder = Path(folder)
        self.read_only = read_only
        self._lock = threading.RLock()
        self._connection = None
        path = self.folder / "keyframes.db"
        with _explained(path):
            if read_only:
                # Without a write-ahead log beside it nobody is writing: then a folder that cannot be written to is readable too.
                alone = "" if Path(f"{path}-wal").exists() else "&immutable=1"
                self._connection = self._connect(f"{path.resolve().as_uri()}?mode=ro{alone}")
            else:
                self.folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
                for part in (self.folder, path):
                    if part.exists() and not os.access(part, os.W_OK):
                        raise StoreError(f"keyframe store {part} is read-only for this user{WRITABLE}")
                self._connection = self._connect(path.resolve().as_uri())
            try:
                self._open(path)
            except BaseException:
                self._connection.close()
                raise

    @staticmethod
    def _connect(uri):
        connection = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
        return connection

    def _open(self, path):
        connection = self._connection
        application, = connection.execute("PRAGMA application_id").fetchone()
        empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
        if application != APPLICATION_ID and not (application == 0 and empty):
            raise StoreError(f"{path} is a database of another program; choose another folder")
        version, = connection.execute("PRAGMA user_version").fetchone()
        if not empty and version not in (1, FORMAT):
            raise StoreError(f"{path} has format {version}, this version of vggt3_ros reads 1 and {FORMAT}: "
                             "choose another folder, or the version that wrote it")
        if not empty and _schema(connection) != (OUR_SCHEMA if version == FORMAT else SCHEMA_OF_FORMAT_1):
            raise StoreError(f"{path} has tables, views or triggers that this version does not make: it is damaged, or not ours")
        self._by_session = empty or version == FORMAT or not self.read_only
        if self.read_only:
            if empty:
                raise StoreError(f"{path} holds no keyframes")
            return
        if empty:
            connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")  # no fsync per keyframe: it costs as much as coding the image
        connection.execute(f"PRAGMA wal_autocheckpoint={2**24 // PAGE_BYTES}")
        connection.execute("PRAGMA foreign_keys=ON")
        with self._transaction():
            if connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
                for statement in filter(str.strip, SCHEMA.split(";")):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version={FORMAT}")
            if connection.execute("PRAGMA user_version").fetchone() == (1,):
                self._migrate()

    def _migrate(self):
        """From format 1: what its note of segments says becomes sessions, the last one the running one."""
        rows = self._connection.execute("SELECT id FROM keyframes ORDER BY stamp_ns, id").fetchall()
        sessions = self._segments([row[0] for row in rows])
        self._connection.execute("ALTER TABLE keyframes ADD COLUMN session INTEGER NOT NULL DEFAULT 0")
        self._connection.executemany("UPDATE keyframes SET session=? WHERE id=?", [(s, row[0]) for s, row in zip(sessions, rows)])
        self._connection.execute("DROP INDEX keyframes_by_stamp")
        self._connection.execute("CREATE INDEX keyframes_by_session ON keyframes (session, stamp_ns, id)")
        self._connection.execute("DELETE FROM notes WHERE name=?", (SEGMENTS,))
        running = max(sessions, default=0)
        for name, text in ((SESSION, str(running)), (PLACED, json.dumps(list(range(running))))):
            self._connection.execute("INSERT OR REPLACE INTO notes VALUES (?,?)", (name, text))
        self._connection.execute(f"PRAGMA user_version={FORMAT}")

    def _segments(self, ids):
        """Session of each keyframe, in the order of their stamps, by the note of format 1."""
        row = self._connection.execute("SELECT text FROM notes WHERE name=?", (SEGMENTS,)).fetchone()
        starts = set(json.loads(row[0])) if row else set()
        return np.cumsum([k > 0 and id in starts for k, id in enumerate(ids)]).astype(int).tolist()

    @property
    def snapshots(self):
        """Folder of the refined snapshots, one numbered folder each."""
        return self.folder / "snapshots"

    def put(self, keyframe, encoded_image=None, image_encoding=""):
        """Store a Keyframe: "added", or "updated" when its id is known; then its pose and covariance are replaced, nothing else.

        encoded_image: the image as received, JPEG or PNG bytes, kept as it is; None: coded losslessly here. image_encoding names
        it in messages. Raises ValueError when the id is known with another stamp or image, StoreError when the disk refuses (full, ...).
        """
        pose = keyframe.T_odom_cam.astype("<f8").tobytes()
        covariance = None if keyframe.odometry_covariance is None else keyframe.odometry_covariance.astype("<f8").tobytes()
        known = self._rows("SELECT stamp_ns FROM keyframes WHERE id=?", keyframe.id)
        coded = None if known else _coded(keyframe, encoded_image, image_encoding)
        with self._lock, _explained(self.folder), self._transaction():
            known = self._connection.execute("SELECT stamp_ns, image, image_kind FROM keyframes JOIN images USING (id) WHERE id=?",
                                             (keyframe.id,)).fetchone()
            if known and known[0] != keyframe.stamp_ns:
                raise ValueError(f"keyframe id {keyframe.id} is stored with stamp_ns {known[0]}, now it comes with "
                                 f"{keyframe.stamp_ns}: an id names one image for ever")
            if known and not codec.same_image(keyframe.image, encoded_image, *known[1:]):
                raise ValueError(f"keyframe id {keyframe.id} is stored with another image of the same stamp_ns: an id names one image for "
                                 "ever")
            if known:
                self._connection.execute("UPDATE keyframes SET T_odom_cam=?, covariance=coalesce(?, covariance) WHERE id=?",
                                         (pose, covariance, keyframe.id))
            else:
                coded = coded or _coded(keyframe, encoded_image, image_encoding)  # another process cleared the store just now
                self._connection.execute("INSERT INTO keyframes VALUES (?,?,?,?,?,?)", (keyframe.id, keyframe.stamp_ns,
                                         self._camera_row(json.dumps(asdict(keyframe.camera))), pose, covariance, self._running()))
                self._connection.execute("INSERT INTO images VALUES (?,?,?,?,?)", (keyframe.id, *coded))
            self._connection.execute("UPDATE revision SET number=number+1")
        return "updated" if known else "added"

    def _camera_row(self, text):
        self._connection.execute("INSERT OR IGNORE INTO cameras (json) VALUES (?)", (text,))
        return self._connection.execute("SELECT id FROM cameras WHERE json=?", (text,)).fetchone()[0]

    def _running(self):
        row = self._connection.execute("SELECT text FROM notes WHERE name=?", (SESSION,)).fetchone()
        return int(row[0]) if row else 0

    @property
    def session(self):
        """Number of the session that new keyframes belong to; those before it have lower numbers."""
        return int(self.get_note(SESSION) or 0)

    @property
    def placed(self):
        """List of the sessions whose odometry is in the map's frame."""
        text = self.get_note(PLACED)
        if text is None and not self._by_session:
            return list(range(int(self.poses().sessions.max(initial=0))))  # so it was when merging noted segments
        return json.loads(text or "[]")

    def begin_session(self):
        """A new run of a front end: its number. Keyframes held so far get ids that no front end gives -> (number, {old id: new id})."""
        with self._lock, _explained(self.folder), self._transaction():
            number = self._running() + 1
            taken, = self._connection.execute("SELECT max(id) FROM keyframes").fetchone()
            first = max(FIRST_ID, (taken or 0) + 1)
            rows = self._connection.execute("SELECT id FROM keyframes WHERE id<? ORDER BY session, stamp_ns, id", (FIRST_ID,)).fetchall()
            new_ids = {id: first + k for k, (id,) in enumerate(rows)}
            self._connection.execute("PRAGMA defer_foreign_keys=ON")
            for table in ("keyframes", "images", "cache"):
                self._connection.executemany(f"UPDATE {table} SET id=? WHERE id=?", [(new, old) for old, new in new_ids.items()])
            aside = {str(new_ids.get(id, id)): reason for id, reason in self.aside().items()}
            for name, text in ((SESSION, str(number)), (ASIDE, json.dumps(aside))):
                self._connection.execute("INSERT OR REPLACE INTO notes VALUES (?,?)", (name, text))
            self._connection.execute("DELETE FROM notes WHERE name=?", (LOADED,))
            self._connection.execute("UPDATE revision SET number=number+1")
        return number, new_ids

    def held_already(self, other):
        """How many keyframes of another KeyframeStore are here already: same stamp, same image."""
        ours = dict(self._rows("SELECT stamp_ns, id FROM keyframes"))
        pairs = [(id, ours[stamp]) for id, stamp in other._rows("SELECT id, stamp_ns FROM keyframes") if stamp in ours]
        query = "SELECT image FROM images WHERE id=?"
        return sum(other._rows(query, theirs) == self._rows(query, mine) for theirs, mine in pairs)

    def absorb(self, other, new_ids, T_odom_cam, notes, clear=False, sessions=None):
        """Take keyframes of another KeyframeStore and what is cached for them, all or nothing.

        new_ids: {id there: id here}; T_odom_cam (N, 4, 4) and sessions (N,) in that order (None: session 0); notes: {name: text} to set as
        well; clear: forget all else.
        """
        with self._lock, _explained(self.folder), self._transaction():
            if clear:
                self._forget()
            sessions = np.zeros(len(new_ids), int) if sessions is None else sessions
            for (old, new), pose, session in zip(new_ids.items(), np.asarray(T_odom_cam, "<f8"), sessions):
                stamp_ns, camera, covariance = other._row(old, "SELECT stamp_ns, json, covariance FROM keyframes JOIN images USING (id) "
                                                               "JOIN cameras ON cameras.id=camera WHERE keyframes.id=?")
                self._connection.execute("INSERT INTO keyframes VALUES (?,?,?,?,?,?)",
                                         (new, stamp_ns, self._camera_row(camera), pose.tobytes(), covariance, int(session)))
                for table in ("images", "cache"):
                    for _, *data in other._rows(f"SELECT * FROM {table} WHERE id=?", old):
                        self._connection.execute(f"INSERT INTO {table} VALUES (?,{','.join('?' * len(data))})", (new, *data))
            for name, text in notes.items():
                self._connection.execute("INSERT OR REPLACE INTO notes VALUES (?,?)", (name, text))
            self._connection.execute("UPDATE revision SET number=number+1")

    def ids(self):
        """Keyframe ids, session by session, each ordered by stamp."""
        return [row[0] for row in self._rows(f"SELECT id FROM keyframes ORDER BY {self._session}, stamp_ns, id")]

    def __len__(self):
        return self._rows("SELECT count(*) FROM keyframes")[0][0]

    def __contains__(self, id):
        return bool(self._rows("SELECT 1 FROM keyframes WHERE id=?", id))

    def get(self, id):
        """The Keyframe with its decoded image and depth. KeyError when there is none, DamagedKeyframe when its data is."""
        row = self._row(id, "SELECT stamp_ns, json, T_odom_cam, covariance, image, image_kind, depth, depth_kind FROM keyframes "
                            "JOIN images USING (id) JOIN cameras ON cameras.id=camera WHERE keyframes.id=?")
        stamp_ns, camera, pose, covariance, image, image_kind, depth, depth_kind = row
        try:
            camera = Camera(**json.loads(camera))
            size = camera.width, camera.height
            return Keyframe(id, stamp_ns, codec.decode_image(image, image_kind, *size), camera, _matrix(pose, 4),
                            None if depth is None else codec.decode_depth(depth, depth_kind, *size), _matrix(covariance, 6))
        except UNREADABLE as error:
            kind = StoreError if isinstance(error, MemoryError) else DamagedKeyframe  # what memory lacks is not the keyframe's fault
            raise kind(f"keyframe {id} in {self.folder} cannot be read: {error}") from error

    def poses(self, aside=False):
        """StoredPoses of every keyframe, of those set aside only where `aside` says so; no image is read."""
        rows = self._rows(f"SELECT id, stamp_ns, T_odom_cam, covariance, {self._session} FROM keyframes ORDER BY 5, stamp_ns, id")
        try:
            left_out = {} if aside else self.aside()
            rows = [row for row in rows if row[0] not in left_out]
            ids = [row[0] for row in rows]
            sessions = [row[4] for row in rows] if self._by_session else self._segments(ids)
            begins = [k > 0 and session != sessions[k - 1] for k, session in enumerate(sessions)]
            return StoredPoses(np.array(ids, np.int64), np.array([row[1] for row in rows], np.int64),
                               np.array([_matrix(row[2], 4) for row in rows]).reshape(-1, 4, 4),
                               [np.eye(6) * NO_STEP if begin else _matrix(row[3], 6) for begin, row in zip(begins, rows)],
                               np.array(sessions, np.int64))
        except UNREADABLE as error:
            raise StoreError(f"the poses in {self.folder} cannot be read: {error}") from error

    def set_aside(self, id, reason):
        """Keep a keyframe, but out of :meth:`poses` and so out of every refinement; until :meth:`clear`."""
        with self._lock:
            self.note(ASIDE, json.dumps({**{str(k): text for k, text in self.aside().items()}, str(id): reason}))

    def aside(self):
        """{keyframe id: reason} of those set aside."""
        return {int(id): reason for id, reason in json.loads(self.get_note(ASIDE) or "{}").items()}

    @property
    def _session(self):
        """The column, which a file of format 1 that is only read does not have."""
        return "session" if self._by_session else "id*0"

    def camera(self, id):
        """The Camera of a keyframe. KeyError when there is none."""
        text, = self._row(id, "SELECT json FROM keyframes JOIN cameras ON cameras.id=camera WHERE keyframes.id=?")
        try:
            return Camera(**json.loads(text))
        except UNREADABLE as error:
            raise StoreError(f"the camera of keyframe {id} in {self.folder} cannot be read: {error}") from error

    def without_depth(self):
        """Set of the ids of keyframes that came without a depth map; none of their data is read."""
        return {row[0] for row in self._rows("SELECT id FROM images WHERE depth IS NULL")}

    def put_cache(self, id, name, version, blob):
        """Keep bytes derived from keyframe `id` (features, ...); they replace those of the same name. KeyError without the keyframe."""
        with self._lock, _explained(self.folder), self._transaction():
            if not self._connection.execute("SELECT 1 FROM keyframes WHERE id=?", (id,)).fetchone():
                raise KeyError(f"there is no keyframe {id} in {self.folder}")
            self._connection.execute("INSERT OR REPLACE INTO cache VALUES (?,?,?,?)", (id, name, str(version), blob))

    def get_cache(self, id, name, version):
        """Bytes of :meth:`put_cache` with the same name and version, or None."""
        rows = self._rows("SELECT data FROM cache WHERE id=? AND name=? AND version=?", id, name, str(version))
        return rows[0][0] if rows else None

    def cached(self, name, version):
        """Set of the ids that :meth:`get_cache` with this name and version has bytes for; none of them is read."""
        return {row[0] for row in self._rows("SELECT id FROM cache WHERE name=? AND version=?", name, str(version))}

    def note(self, name, text):
        """Keep a short text about the whole store, as the name of the odometry frame; None removes it."""
        with self._lock, _explained(self.folder), self._transaction():
            self._connection.execute("DELETE FROM notes WHERE name=?", (name,))
            if text is not None:
                self._connection.execute("INSERT INTO notes VALUES (?,?)", (name, text))

    def get_note(self, name):
        """Text of :meth:`note`, or None."""
        rows = self._rows("SELECT text FROM notes WHERE name=?", name)
        return rows[0][0] if rows else None

    def revision(self):
        """A number that grows with every put and clear, in any process."""
        return self._rows("SELECT number FROM revision")[0][0]

    def clear(self):
        """Forget every keyframe, everything derived from them, the notes and the snapshots."""
        with self._lock, _explained(self.folder):
            with self._transaction():
                self._forget()
            self._connection.execute("PRAGMA incremental_vacuum").fetchall()
            if self.snapshots.exists():
                shutil.rmtree(self.snapshots)

    def _forget(self):
        self._connection.execute("DELETE FROM keyframes")
        self._connection.execute("DELETE FROM cameras")
        self._connection.execute("DELETE FROM notes")
        self._connection.execute("UPDATE revision SET number=number+1")

    def backup(self, folder):
        """Write a consistent copy of the database into another folder, while others go on reading and writing."""
        with _explained(folder):
            copy = sqlite3.connect(Path(folder) / "keyframes.db")
            try:
                with self._lock:
                    self._connection.backup(copy)
            finally:
                copy.close()

    def close(self):
        with self._lock:
            self._connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def _rows(self, query, *values):
        with self._lock, _explained(self.folder):
            return self._connection.execute(query, values).fetchall()

    def _row(self, id, query):
        rows = self._rows(query, id)
        if rows:
            return rows[0]
        if id in self:
            raise DamagedKeyframe(f"keyframe {id} in {self.folder} cannot be read: its image or camera is missing")
        raise KeyError(f"there is no keyframe {id} in {self.folder}")

    @contextmanager
    def _transaction(self):
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise


def _coded(keyframe, encoded_image, image_encoding):
    """The last four columns of the images table."""
    if encoded_image is None:
        image, kind = codec.encode_image(keyframe.image)
    else:
        try:
            image, kind = bytes(encoded_image), codec.image_kind(encoded_image)
        except ValueError as error:
            raise ValueError(f"encoded_image ('{image_encoding}') of keyframe {keyframe.id}: {error}") from error
    depth, depth_kind = (None, None) if keyframe.depth is None else codec.encode_depth(keyframe.depth)
    return image, kind, depth, depth_kind


UNREADABLE = (ValueError, TypeError, AttributeError, RecursionError, OverflowError, MemoryError)  # what damaged values may raise


def _matrix(data, size):
    """(size, size) float64 of bytes, None of None. ValueError when it is anything else, or not finite."""
    if data is None:
        return None
    matrix = np.frombuffer(data, "<f8").reshape(size, size).copy()
    if not np.all(np.isfinite(matrix)):
        raise ValueError("a pose or covariance holds NaN or infinity")
    return matrix


FULL, WRITABLE = "; make room on its disk", "; make it writable, or choose another folder"
HINTS = {13: FULL, 10: "; is its disk full, or failing?"}  # SQLITE_FULL, SQLITE_IOERR
FILE_HINTS = {errno.ENOSPC: FULL, errno.EDQUOT: FULL, errno.EROFS: WRITABLE, errno.EACCES: WRITABLE, errno.EPERM: WRITABLE,
              **dict.fromkeys((errno.EEXIST, errno.ENOTDIR), "; choose another folder")}


@contextmanager
def _explained(path):
    """sqlite3 and file errors as StoreError."""
    try:
        yield
    except sqlite3.Error as error:
        hint = HINTS.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, "")
        raise StoreError(f"keyframe store {path}: {error}{hint}") from error
    except OSError as error:
        raise StoreError(f"keyframe store {path}: {error.strerror or error}{FILE_HINTS.get(error.errno, '')}") from error
