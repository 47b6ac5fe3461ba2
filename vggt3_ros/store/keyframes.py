"""Keyframes on disk: one SQLite file, the contract between the node, the worker and the next
start.
"""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np

from vggt3_ros.geometry.camera import Camera
from vggt3_ros.store import codec
from vggt3_ros.store.database import SESSION, Database, StoreError, explained
from vggt3_ros.store.keyframe import Keyframe
from vggt3_ros.store.stored_poses import StoredPoses, matrix, spanning

IMAGES = "images"  # note: "none" in a map that was saved without
LOADED = "loaded"  # note: the saved map that the keyframes came from
ASIDE = "set_aside"  # note: JSON {keyframe id: why it takes no part in refinements}
# of the numbers that the store itself gives to keyframes; front ends count from zero
FIRST_ID = 2**62
# where a front end's own, if it counts up there, do not drive the store's to the end of 64 bits
FRONT_ENDS = FIRST_ID + FIRST_ID // 2
NEXT_ID = "next_id"  # note: the number that the store gives next
# variance, m^2 and rad^2, of the step to the first keyframe of a session: nothing is known of it
NO_STEP = 1e4


class DamagedKeyframe(StoreError):
    """One keyframe cannot be read; the others can."""


class KeyframeStore:
    """The keyframes in `folder`/keyframes.db, created when missing. Threads and processes may
    share a folder.

    What :meth:`put` acknowledged survives a kill of the process, and a power cut, at any moment;
    what is cached may be lost with the power. Raises StoreError when the database is damaged,
    newer than this version or not ours; nothing is then overwritten. database: what store_sessions
    reads and writes, too.

    A keyframe keeps its id for ever: the one it came with, or one from FIRST_ID on where an
    earlier session has a keyframe of that id. Its public id, which alone the front end knows, is
    the one it came with as long as its session runs, then one from FIRST_ID on.
    """

    def __init__(self, folder, read_only=False):
        self.folder, self.read_only = Path(folder), read_only
        self.database = Database(folder, read_only)

    @property
    def snapshots(self):
        """Folder of the refined snapshots, one numbered folder each."""
        return self.folder / "snapshots"

    def put(self, keyframe, encoded_image=None, image_encoding=""):
        """Store a Keyframe: "added", or "updated" when its public id is known; then its pose and
        covariance are replaced, nothing else.

        encoded_image: the image as received, JPEG or PNG bytes, kept as it is; None: coded
        losslessly here. image_encoding names it in messages. Raises ValueError when the id is
        known with another stamp or image, StoreError when the disk refuses (full, ...).
        """
        pose = keyframe.T_odom_cam.astype("<f8").tobytes()
        covariance = (
            None
            if keyframe.odometry_covariance is None
            else keyframe.odometry_covariance.astype("<f8").tobytes()
        )
        coded = (
            None
            if self.find(keyframe.id) is not None
            else _coded(keyframe, encoded_image, image_encoding)
        )
        with self.database.writing() as connection:
            known = connection.execute(
                "SELECT stamp_ns, image, image_kind, id FROM keyframes JOIN images USING (id) WHERE public_id=?",
                (keyframe.id,),
            ).fetchone()
            if known and known[0] != keyframe.stamp_ns:
                raise ValueError(
                    f"keyframe id {keyframe.id} is stored with stamp_ns {known[0]}, now it comes with "
                    f"{keyframe.stamp_ns}: an id names one image for ever"
                )
            if known and not codec.same_image(keyframe.image, encoded_image, *known[1:3]):
                raise ValueError(
                    f"keyframe id {keyframe.id} is stored with another image of the same stamp_ns: an id names one image for "
                    "ever"
                )
            if known:
                connection.execute(
                    "UPDATE keyframes SET T_odom_cam=?, covariance=coalesce(?, covariance) WHERE id=?",
                    (pose, covariance, known[3]),
                )
            else:
                # another process cleared the store just now
                coded = coded or _coded(keyframe, encoded_image, image_encoding)
                ours = FIRST_ID <= keyframe.id < self._next_id()
                number = self.reserve(1) if ours or keyframe.id in self else keyframe.id
                connection.execute(
                    "INSERT INTO keyframes VALUES (?,?,?,?,?,?,?)",
                    (
                        number,
                        keyframe.stamp_ns,
                        self.camera_row(json.dumps(asdict(keyframe.camera))),
                        pose,
                        covariance,
                        self.session,
                        keyframe.id,
                    ),
                )
                connection.execute("INSERT INTO images VALUES (?,?,?,?,?)", (number, *coded))
            connection.execute("UPDATE revision SET number=number+1")
        return "updated" if known else "added"

    def camera_row(self, text):
        """Number of a camera, given as JSON; within a transaction."""
        self.database.connection.execute(
            "INSERT OR IGNORE INTO cameras (json) VALUES (?)", (text,)
        )
        return self.database.connection.execute(
            "SELECT id FROM cameras WHERE json=?", (text,)
        ).fetchone()[0]

    def reserve(self, count):
        """The first of `count` numbers from FIRST_ID on that no keyframe has or had, as id or
        public id; within a transaction.
        """
        connection = self.database.connection
        largest = lambda low, high: max(
            connection.execute(
                f"SELECT coalesce(max({column}), -1) FROM keyframes WHERE {column}>=? AND {column}<?",
                (low, high),
            ).fetchone()[0]
            for column in ("id", "public_id")
        )
        first = max(self._next_id(), largest(FIRST_ID, FRONT_ENDS) + 1)
        while (taken := largest(first, first + count)) >= 0:  # by a front end that counts up there
            first = taken + 1
        connection.execute(
            "INSERT OR REPLACE INTO notes VALUES (?,?)", (NEXT_ID, str(first + count))
        )
        return first

    def _next_id(self):
        return max(FIRST_ID, int(self.get_note(NEXT_ID) or 0))

    def find(self, public_id):
        """Id of the keyframe with this public id, None without one."""
        rows = self.database.rows(
            f"SELECT id FROM keyframes WHERE {self.database.column('public_id')}=?", public_id
        )
        return rows[0][0] if rows else None

    def public_ids(self):
        """{id: public id} of all keyframes."""
        return dict(
            self.database.rows(f"SELECT id, {self.database.column('public_id')} FROM keyframes")
        )

    def next_public_id(self):
        """The one after the greatest that a front end gave in the session that runs."""
        public_id = self.database.column("public_id")
        return self.database.rows(
            f"SELECT coalesce(max({public_id}), -1) + 1 FROM keyframes WHERE {public_id}<?",
            FIRST_ID,
        )[0][0]

    def lacks(self, ids, stamps_ns):
        """How many of the keyframes with these ids and stamps are not held: a snapshot of such
        ones is of another map.
        """
        held = dict(self.database.rows("SELECT id, stamp_ns FROM keyframes"))
        return sum(held.get(int(id)) != int(stamp_ns) for id, stamp_ns in zip(ids, stamps_ns))

    @property
    def session(self):
        """Number of the session that new keyframes belong to; those before it have lower
        numbers.
        """
        return int(self.get_note(SESSION) or 0)

    def ids(self):
        """Keyframe ids, session by session, each ordered by stamp."""
        return [
            row[0]
            for row in self.database.rows(
                f"SELECT id FROM keyframes ORDER BY {self.database.column('session')}, stamp_ns, id"
            )
        ]

    def __len__(self):
        return self.database.rows("SELECT count(*) FROM keyframes")[0][0]

    def __contains__(self, id):
        return bool(self.database.rows("SELECT 1 FROM keyframes WHERE id=?", id))

    def get(self, id):
        """The Keyframe with its decoded image and depth. KeyError when there is none,
        DamagedKeyframe when its data is.
        """
        row = self.row(
            id,
            "SELECT stamp_ns, json, T_odom_cam, covariance, image, image_kind, depth, depth_kind FROM keyframes "
            "JOIN images USING (id) JOIN cameras ON cameras.id=camera WHERE keyframes.id=?",
        )
        stamp_ns, camera, pose, covariance, image, image_kind, depth, depth_kind = row
        try:
            camera = Camera(**json.loads(camera))
            size = camera.width, camera.height
            return Keyframe(
                id,
                stamp_ns,
                codec.decode_image(image, image_kind, *size),
                camera,
                matrix(pose, 4),
                None if depth is None else codec.decode_depth(depth, depth_kind, *size),
                matrix(covariance, 6),
            )
        except UNREADABLE as error:
            # what memory lacks is not the keyframe's fault
            kind = StoreError if isinstance(error, MemoryError) else DamagedKeyframe
            raise kind(f"keyframe {id} in {self.folder} cannot be read: {error}") from error

    def poses(self, aside=False):
        """StoredPoses of every keyframe, of those set aside only where `aside` says so; no image
        is read.
        """
        rows = self.database.rows(
            f"SELECT id, stamp_ns, T_odom_cam, covariance, {self.database.column('session')} FROM keyframes "
            "ORDER BY 5, stamp_ns, id"
        )
        try:
            left_out = {} if aside else self.aside()
            kept = np.array([row[0] not in left_out for row in rows], bool)
            ids = np.array([row[0] for row in rows], np.int64)
            sessions = np.array(
                [row[4] for row in rows]
                if self.database.format > 1
                else self.database.segments(ids.tolist()),
                np.int64,
            )
            begins = [k > 0 and session != sessions[k - 1] for k, session in enumerate(sessions)]
            motions = [_motion(row, k) for row, k in zip(rows, kept)]
            covariances = [
                np.eye(6) * NO_STEP if begin else motion[1]
                for begin, motion in zip(begins, motions)
            ]
            poses = [motion[0] for motion in motions]
            return StoredPoses(
                ids[kept],
                np.array([row[1] for row in rows], np.int64)[kept],
                np.array([pose for pose, k in zip(poses, kept) if k]).reshape(-1, 4, 4),
                spanning(poses, covariances, sessions, kept),
                sessions[kept],
            )
        except UNREADABLE as error:
            raise StoreError(f"the poses in {self.folder} cannot be read: {error}") from error

    def set_aside(self, id, reason):
        """Keep a keyframe, but out of :meth:`poses` and so out of every refinement; until
        :meth:`clear`.
        """
        with self.database.lock:
            self.note(
                ASIDE,
                json.dumps(
                    {**{str(k): text for k, text in self.aside().items()}, str(id): reason}
                ),
            )

    def aside(self):
        """{keyframe id: reason} of those set aside."""
        return {int(id): reason for id, reason in json.loads(self.get_note(ASIDE) or "{}").items()}

    def camera(self, id):
        """The Camera of a keyframe. KeyError when there is none."""
        (text,) = self.row(
            id, "SELECT json FROM keyframes JOIN cameras ON cameras.id=camera WHERE keyframes.id=?"
        )
        try:
            return Camera(**json.loads(text))
        except UNREADABLE as error:
            raise StoreError(
                f"the camera of keyframe {id} in {self.folder} cannot be read: {error}"
            ) from error

    def without_depth(self):
        """Set of the ids of keyframes that came without a depth map; none of their data is
        read.
        """
        return {row[0] for row in self.database.rows("SELECT id FROM images WHERE depth IS NULL")}

    def put_cache(self, id, name, version, blob):
        """Keep bytes derived from keyframe `id` (features, ...); they replace those of the same
        name. KeyError without the keyframe.
        """
        with self.database.writing(synced=False) as connection:
            if not connection.execute("SELECT 1 FROM keyframes WHERE id=?", (id,)).fetchone():
                raise KeyError(f"there is no keyframe {id} in {self.folder}")
            connection.execute(
                "INSERT OR REPLACE INTO cache VALUES (?,?,?,?)", (id, name, str(version), blob)
            )

    def get_cache(self, id, name, version):
        """Bytes of :meth:`put_cache` with the same name and version, or None."""
        rows = self.database.rows(
            "SELECT data FROM cache WHERE id=? AND name=? AND version=?", id, name, str(version)
        )
        return rows[0][0] if rows else None

    def cached(self, name, version):
        """Set of the ids that :meth:`get_cache` with this name and version has bytes for; none of
        them is read.
        """
        return {
            row[0]
            for row in self.database.rows(
                "SELECT id FROM cache WHERE name=? AND version=?", name, str(version)
            )
        }

    @property
    def has_images(self):
        """False for a map that was saved without: it serves, but cannot be refined."""
        return self.get_note(IMAGES) != "none"

    def forget_images(self):
        """Forget images, depth and what is cached of them, so that the file does not hold them any
        more; poses and cameras stay.
        """
        with self.database.lock, explained(self.folder):
            with self.database.writing() as connection:
                for statement in (
                    "DELETE FROM images",
                    "DELETE FROM cache",
                    f"INSERT OR REPLACE INTO notes VALUES ('{IMAGES}', 'none')",
                    "UPDATE revision SET number=number+1",
                ):
                    connection.execute(statement)
            self.database.rows("VACUUM")
            self.database.rows("PRAGMA wal_checkpoint(TRUNCATE)")

    def note(self, name, text):
        """Keep a short text about the whole store, as the name of the odometry frame; None removes
        it.
        """
        with self.database.writing() as connection:
            connection.execute("DELETE FROM notes WHERE name=?", (name,))
            if text is not None:
                connection.execute("INSERT INTO notes VALUES (?,?)", (name, text))

    def get_note(self, name):
        """Text of :meth:`note`, or None."""
        rows = self.database.rows("SELECT text FROM notes WHERE name=?", name)
        return rows[0][0] if rows else None

    def revision(self):
        """A number that grows with every put and clear, in any process."""
        return self.database.rows("SELECT number FROM revision")[0][0]

    def clear(self):
        """Forget every keyframe, everything derived from them, the notes and the snapshots."""
        with self.database.lock, explained(self.folder):
            with self.database.writing():
                self.forget_keyframes()
            self.database.rows("PRAGMA incremental_vacuum")
            if self.snapshots.exists():
                shutil.rmtree(self.snapshots)

    def forget_keyframes(self):
        """All of them, and the notes; within a transaction."""
        # Images that arrive have no keyframe yet, with which they would go.
        for statement in (
            *(
                f"DELETE FROM {table}"
                for table in ("keyframes", "images", "cache", "cameras", "notes")
            ),
            "UPDATE revision SET number=number+1",
        ):
            self.database.connection.execute(statement)

    def backup(self, folder, progress=lambda: None):
        """Write a consistent copy of the database into another folder, while others go on reading
        and writing; see Database.backup.
        """
        self.database.backup(folder, progress)

    def close(self):
        self.database.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def row(self, id, query):
        """The row that a query finds for a keyframe. KeyError without the keyframe,
        DamagedKeyframe without the row.
        """
        rows = self.database.rows(query, id)
        if rows:
            return rows[0]
        if id in self:
            raise DamagedKeyframe(
                f"keyframe {id} in {self.folder} cannot be read: its image or camera is missing"
            )
        raise KeyError(f"there is no keyframe {id} in {self.folder}")


def _motion(row, kept):
    """(T_odom_cam, covariance or None) of a row of keyframes; (None, None) where one that is set
    aside cannot be read.
    """
    try:
        return matrix(row[2], 4), matrix(row[3], 6)
    except UNREADABLE:
        if kept:
            raise
        return None, None


def _coded(keyframe, encoded_image, image_encoding):
    """The last four columns of the images table."""
    if encoded_image is None:
        image, kind = codec.encode_image(keyframe.image)
    else:
        try:
            image, kind = bytes(encoded_image), codec.image_kind(encoded_image)
        except ValueError as error:
            raise ValueError(
                f"encoded_image ('{image_encoding}') of keyframe {keyframe.id}: {error}"
            ) from error
    depth, depth_kind = (
        (None, None) if keyframe.depth is None else codec.encode_depth(keyframe.depth)
    )
    return image, kind, depth, depth_kind


# what damaged values may raise
UNREADABLE = (ValueError, TypeError, AttributeError, RecursionError, OverflowError, MemoryError)
