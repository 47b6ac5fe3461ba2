"""Keyframes on disk: one SQLite file, the contract between the node, the worker and the next start."""

import json
import shutil
import sqlite3
import threading
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from vggt3_ros.geometry.camera import Camera
from vggt3_ros.mapping import codec
from vggt3_ros.mapping.keyframe import Keyframe

APPLICATION_ID = 0x56473352  # "VG3R", in the file's header
FORMAT = 1
LOADED = "loaded"  # note: the saved map that the keyframes came from
SEGMENTS = "segments"  # note: JSON list of the keyframe ids that begin a stretch of odometry of their own
NO_STEP = 1e4  # variance, m^2 and rad^2, of the step to one of them: nothing is known of it
BUSY_SECONDS = 20.0  # how long one process waits while another writes

SCHEMA = """
CREATE TABLE cameras (id INTEGER PRIMARY KEY, json TEXT NOT NULL UNIQUE);
CREATE TABLE keyframes (id INTEGER PRIMARY KEY, stamp_ns INTEGER NOT NULL, camera INTEGER NOT NULL REFERENCES cameras(id),
    T_odom_cam BLOB NOT NULL, covariance BLOB);
CREATE INDEX keyframes_by_stamp ON keyframes (stamp_ns, id);
CREATE TABLE images (id INTEGER PRIMARY KEY REFERENCES keyframes(id) ON DELETE CASCADE, image BLOB NOT NULL, image_kind TEXT NOT NULL,
    depth BLOB, depth_kind TEXT);
CREATE TABLE cache (id INTEGER NOT NULL REFERENCES keyframes(id) ON DELETE CASCADE, name TEXT NOT NULL, version TEXT NOT NULL,
    data BLOB NOT NULL, PRIMARY KEY (id, name));
CREATE TABLE notes (name TEXT PRIMARY KEY, text TEXT NOT NULL);
CREATE TABLE revision (number INTEGER NOT NULL);
INSERT INTO revision VALUES (0);
"""


class StoreError(ValueError):
    """The folder or its database cannot be used; the text says why."""


@dataclass(frozen=True, eq=False)
class StoredPoses:
    """All keyframes without their images, ordered by stamp.

    ids, stamps_ns (N,) int64; T_odom_cam (N, 4, 4); covariances: per keyframe (6, 6) as in Keyframe, or None.
    """

    ids: np.ndarray
    stamps_ns: np.ndarray
    T_odom_cam: np.ndarray
    covariances: list

    def __len__(self):
        return len(self.ids)


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
                self.folder.mkdir(parents=True, exist_ok=True)
                self._connection = self._connect(path.resolve().as_uri())
            try:
                self._open(path)
            except BaseException:
                self._connection.close()
                raise

    @staticmethod
    def _connect(uri):
        return sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)

    def _open(self, path):
        connection = self._connection
        application, = connection.execute("PRAGMA application_id").fetchone()
        empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
        if application != APPLICATION_ID and not (application == 0 and empty):
            raise StoreError(f"{path} is a database of another program; choose another folder")
        version, = connection.execute("PRAGMA user_version").fetchone()
        if not empty and version != FORMAT:
            raise StoreError(f"{path} has format {version}, this version of vggt3_ros reads {FORMAT}: "
                             "choose another folder, or the version that wrote it")
        if self.read_only:
            if empty:
                raise StoreError(f"{path} holds no keyframes")
            return
        if empty:
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")  # no fsync per keyframe: it costs as much as coding the image
        connection.execute("PRAGMA wal_autocheckpoint=4000")  # pages of 4 kB
        connection.execute("PRAGMA foreign_keys=ON")
        with self._transaction():
            if connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
                for statement in filter(str.strip, SCHEMA.split(";")):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version={FORMAT}")

    @property
    def snapshots(self):
        """Folder of the refined snapshots, one numbered folder each."""
        return self.folder / "snapshots"

    def put(self, keyframe, encoded_image=None, image_encoding=""):
        """Store a Keyframe: "added", or "updated" when its id is known; then its pose and covariance are replaced, nothing else.

        encoded_image: the image as received, JPEG or PNG bytes, kept as it is; None: coded losslessly here. image_encoding names
        it in messages. Raises ValueError when the id is known with another stamp, StoreError when the disk refuses (full, ...).
        """
        pose = keyframe.T_odom_cam.astype("<f8").tobytes()
        covariance = None if keyframe.odometry_covariance is None else keyframe.odometry_covariance.astype("<f8").tobytes()
        known = self._rows("SELECT stamp_ns FROM keyframes WHERE id=?", keyframe.id)
        coded = None if known else _coded(keyframe, encoded_image, image_encoding)
        with self._lock, _explained(self.folder), self._transaction():
            known = self._connection.execute("SELECT stamp_ns FROM keyframes WHERE id=?", (keyframe.id,)).fetchone()
            if known and known[0] != keyframe.stamp_ns:
                raise ValueError(f"keyframe id {keyframe.id} is stored with stamp_ns {known[0]}, now it comes with "
                                 f"{keyframe.stamp_ns}: an id names one image for ever")
            if known:
                self._connection.execute("UPDATE keyframes SET T_odom_cam=?, covariance=coalesce(?, covariance) WHERE id=?",
                                         (pose, covariance, keyframe.id))
            else:
                coded = coded or _coded(keyframe, encoded_image, image_encoding)  # another process cleared the store just now
                self._connection.execute("INSERT INTO keyframes VALUES (?,?,?,?,?)", (keyframe.id, keyframe.stamp_ns,
                                         self._camera_row(json.dumps(asdict(keyframe.camera))), pose, covariance))
                self._connection.execute("INSERT INTO images VALUES (?,?,?,?,?)", (keyframe.id, *coded))
            self._connection.execute("UPDATE revision SET number=number+1")
        return "updated" if known else "added"

    def _camera_row(self, text):
        self._connection.execute("INSERT OR IGNORE INTO cameras (json) VALUES (?)", (text,))
        return self._connection.execute("SELECT id FROM cameras WHERE json=?", (text,)).fetchone()[0]

    def absorb(self, other, new_ids, T_odom_cam, notes, clear=False):
        """Take keyframes of another KeyframeStore and what is cached for them, all or nothing.

        new_ids: {id there: id here}; T_odom_cam (N, 4, 4) in that order; notes: {name: text} to set as well; clear: forget all else.
        """
        with self._lock, _explained(self.folder), self._transaction():
            if clear:
                self._forget()
            for (old, new), pose in zip(new_ids.items(), np.asarray(T_odom_cam, "<f8")):
                stamp_ns, camera, covariance = other._row(old, "SELECT stamp_ns, json, covariance FROM keyframes "
                                                               "JOIN cameras ON cameras.id=camera WHERE keyframes.id=?")
                self._connection.execute("INSERT INTO keyframes VALUES (?,?,?,?,?)",
                                         (new, stamp_ns, self._camera_row(camera), pose.tobytes(), covariance))
                for table in ("images", "cache"):
                    for _, *data in other._rows(f"SELECT * FROM {table} WHERE id=?", old):
                        self._connection.execute(f"INSERT INTO {table} VALUES (?,{','.join('?' * len(data))})", (new, *data))
            for name, text in notes.items():
                self._connection.execute("INSERT OR REPLACE INTO notes VALUES (?,?)", (name, text))
            self._connection.execute("UPDATE revision SET number=number+1")

    def ids(self):
        """Keyframe ids ordered by stamp."""
        return [row[0] for row in self._rows("SELECT id FROM keyframes ORDER BY stamp_ns, id")]

    def __len__(self):
        return self._rows("SELECT count(*) FROM keyframes")[0][0]

    def __contains__(self, id):
        return bool(self._rows("SELECT 1 FROM keyframes WHERE id=?", id))

    def get(self, id):
        """The Keyframe with its decoded image and depth. KeyError when there is none, StoreError when its data is damaged."""
        row = self._row(id, "SELECT stamp_ns, json, T_odom_cam, covariance, image, image_kind, depth, depth_kind FROM keyframes "
                            "JOIN images USING (id) JOIN cameras ON cameras.id=camera WHERE keyframes.id=?")
        stamp_ns, camera, pose, covariance, image, image_kind, depth, depth_kind = row
        try:
            camera = Camera(**json.loads(camera))
            size = camera.width, camera.height
            return Keyframe(id, stamp_ns, codec.decode_image(image, image_kind, *size), camera, _matrix(pose, 4),
                            None if depth is None else codec.decode_depth(depth, depth_kind, *size), _matrix(covariance, 6))
        except ValueError as error:
            raise StoreError(f"keyframe {id} in {self.folder} cannot be read: {error}") from error

    def poses(self):
        """StoredPoses of every keyframe; no image is read."""
        rows = self._rows("SELECT id, stamp_ns, T_odom_cam, covariance FROM keyframes ORDER BY stamp_ns, id")
        starts = set(json.loads(self.get_note(SEGMENTS) or "[]"))
        return StoredPoses(np.array([row[0] for row in rows], np.int64), np.array([row[1] for row in rows], np.int64),
                           np.array([_matrix(row[2], 4) for row in rows]).reshape(-1, 4, 4),
                           [np.eye(6) * NO_STEP if row[0] in starts else _matrix(row[3], 6) for row in rows])

    def camera(self, id):
        """The Camera of a keyframe. KeyError when there is none."""
        return Camera(**json.loads(self._row(id, "SELECT json FROM keyframes JOIN cameras ON cameras.id=camera "
                                                 "WHERE keyframes.id=?")[0]))

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
        if not rows:
            raise KeyError(f"there is no keyframe {id} in {self.folder}")
        return rows[0]

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


def _matrix(data, size):
    return None if data is None else np.frombuffer(data, "<f8").reshape(size, size).copy()


@contextmanager
def _explained(path):
    """sqlite3 and file errors as StoreError."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(f"keyframe store {path}: {error}") from error
    except OSError as error:
        raise StoreError(f"keyframe store {path}: {error.strerror or error}") from error
