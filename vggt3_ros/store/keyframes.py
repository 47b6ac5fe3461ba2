"""Keyframes on disk: one SQLite file, the contract between the node, the worker, and the next
run.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from vggt3_ros.geometry.camera import Camera
from vggt3_ros.geometry.se3 import Floats
from vggt3_ros.store import codec
from vggt3_ros.store.database import SESSION, Database, StoreError, explained
from vggt3_ros.store.keyframe import Keyframe
from vggt3_ros.store.stored_poses import StoredPoses, matrix, spanning

IMAGES = "images"  # note: "none" in a map that was saved without images
LOADED = "loaded"  # note: the saved map that the keyframes came from
ASIDE = "set_aside"  # note: JSON {keyframe id: why refinements leave it out}
# First id that the store itself assigns; front ends count from zero.
FIRST_ID = 2**62
# Ids of front ends from here on do not advance the store's own, which would reach the end of 64 bits.
FRONT_ENDS = FIRST_ID + FIRST_ID // 2
NEXT_ID = "next_id"  # note: the next id that the store assigns
# variance, m^2 and rad^2, of the motion to the first keyframe of a session, which is unknown
NO_STEP = 1e4
Row = tuple[Any, ...]  # of SQLite


class DamagedKeyframe(StoreError):
    """A keyframe cannot be read; the others can."""


class KeyframeStore:
    """The keyframes in `folder`/keyframes.db, created if missing. Threads and processes may share
    a folder.

    A keyframe survives a kill of the process or a power cut at any moment after :meth:`put`
    returned; cached data may be lost in a power cut. Raises StoreError if the database is damaged,
    newer than this version or not ours; nothing is overwritten then. database: also used by
    sessions.py.

    The id of a keyframe never changes: it is the one that the front end sent, or one from FIRST_ID
    on if a keyframe of an earlier session has that id. The public id is the one that the front end
    knows: it is the one sent while the keyframe's session is current, and one from FIRST_ID on
    afterwards.
    """

    def __init__(self, folder: str | Path, read_only: bool = False) -> None:
        self.folder, self.read_only = Path(folder), read_only
        self.database = Database(folder, read_only)

    @property
    def snapshots(self) -> Path:
        """The folder of the refined snapshots, one numbered folder each."""
        return self.folder / "snapshots"

    def put(
        self,
        keyframe: Keyframe,
        encoded_image: codec.Bytes | None = None,
        image_encoding: str = "",
    ) -> str:
        """Store a keyframe. Return "added", or "updated" if its public id is known; then only its
        pose and covariance are replaced.

        encoded_image: the image as received, JPEG or PNG, stored unchanged; None: it is encoded
        losslessly here. image_encoding: its name in error messages. Raises ValueError if the id is
        known with another stamp or image, StoreError if it cannot be written (disk full, ...).
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
                    f"keyframe id {keyframe.id} is already stored with stamp_ns {known[0]}, not "
                    f"{keyframe.stamp_ns}: an id must not be reused for another image"
                )
            if known and not codec.same_image(keyframe.image, encoded_image, *known[1:3]):
                raise ValueError(
                    f"keyframe id {keyframe.id} is already stored with another image of the same stamp_ns: an id must not be "
                    "reused for another image"
                )
            if known:
                connection.execute(
                    "UPDATE keyframes SET T_odom_cam=?, covariance=coalesce(?, covariance) WHERE id=?",
                    (pose, covariance, known[3]),
                )
            else:
                # None if another process has cleared the store since find()
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

    def camera_row(self, text: str) -> int:
        """Return the row id of a camera given as JSON, inserted if missing. Call it within a
        transaction.
        """
        self.database.connection.execute(
            "INSERT OR IGNORE INTO cameras (json) VALUES (?)", (text,)
        )
        (row_id,) = self.database.connection.execute(
            "SELECT id FROM cameras WHERE json=?", (text,)
        ).fetchone()
        return int(row_id)

    def reserve(self, count: int) -> int:
        """Reserve `count` consecutive ids from FIRST_ID on that no keyframe has or had, as id or
        public id; return the first. Call it within a transaction.
        """
        connection = self.database.connection

        def largest(low: int, high: int) -> int:
            return max(
                int(
                    connection.execute(
                        f"SELECT coalesce(max({column}), -1) FROM keyframes WHERE {column}>=? AND {column}<?",
                        (low, high),
                    ).fetchone()[0]
                )
                for column in ("id", "public_id")
            )

        first = max(self._next_id(), largest(FIRST_ID, FRONT_ENDS) + 1)
        while (
            taken := largest(first, first + count)
        ) >= 0:  # by a front end with ids in this range
            first = taken + 1
        connection.execute(
            "INSERT OR REPLACE INTO notes VALUES (?,?)", (NEXT_ID, str(first + count))
        )
        return first

    def _next_id(self) -> int:
        return max(FIRST_ID, int(self.get_note(NEXT_ID) or 0))

    def find(self, public_id: int) -> int | None:
        """Return the id of the keyframe with this public id; None if there is none."""
        rows = self.database.rows(
            f"SELECT id FROM keyframes WHERE {self.database.column('public_id')}=?", public_id
        )
        return rows[0][0] if rows else None

    def public_ids(self) -> dict[int, int]:
        """Return {id: public id} of all keyframes."""
        return dict(
            self.database.rows(f"SELECT id, {self.database.column('public_id')} FROM keyframes")
        )

    def next_public_id(self) -> int:
        """Return the successor of the largest id that the front end has sent in the current
        session.
        """
        public_id = self.database.column("public_id")
        ((number,),) = self.database.rows(
            f"SELECT coalesce(max({public_id}), -1) + 1 FROM keyframes WHERE {public_id}<?",
            FIRST_ID,
        )
        return int(number)

    def lacks(self, ids: Sequence[int] | np.ndarray, stamps_ns: Sequence[int] | np.ndarray) -> int:
        """Return how many keyframes with these ids and stamps are missing. If any is, a snapshot of
        them belongs to another map.
        """
        held = dict(self.database.rows("SELECT id, stamp_ns FROM keyframes"))
        return sum(held.get(int(id)) != int(stamp_ns) for id, stamp_ns in zip(ids, stamps_ns))

    @property
    def session(self) -> int:
        """The number of the current session, which new keyframes belong to; earlier ones have
        lower numbers.
        """
        return int(self.get_note(SESSION) or 0)

    def ids(self) -> list[int]:
        """Return all keyframe ids, ordered by session, then by stamp."""
        return [
            row[0]
            for row in self.database.rows(
                f"SELECT id FROM keyframes ORDER BY {self.database.column('session')}, stamp_ns, id"
            )
        ]

    def __len__(self) -> int:
        return int(self.database.rows("SELECT count(*) FROM keyframes")[0][0])

    def __contains__(self, id: int) -> bool:
        return bool(self.database.rows("SELECT 1 FROM keyframes WHERE id=?", id))

    def get(self, id: int) -> Keyframe:
        """Return a keyframe with its decoded image and depth. Raises KeyError if there is none,
        DamagedKeyframe if its data is damaged.
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
                None if covariance is None else matrix(covariance, 6),
            )
        except UNREADABLE as error:
            # running out of memory does not make the keyframe damaged
            kind = StoreError if isinstance(error, MemoryError) else DamagedKeyframe
            raise kind(f"keyframe {id} in {self.folder} cannot be read: {error}") from error

    def poses(self, aside: bool = False) -> StoredPoses:
        """Return the poses of all keyframes without reading images. aside: include those that are
        set aside.
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
            covariances: list[Floats | None] = [
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

    def set_aside(self, id: int, reason: str) -> None:
        """Exclude a keyframe from :meth:`poses`, and so from every refinement, until :meth:`clear`.
        It stays in the store.
        """
        with self.database.lock:
            self.note(
                ASIDE,
                json.dumps(
                    {**{str(k): text for k, text in self.aside().items()}, str(id): reason}
                ),
            )

    def aside(self) -> dict[int, str]:
        """Return {keyframe id: reason} of the keyframes that are set aside."""
        return {int(id): reason for id, reason in json.loads(self.get_note(ASIDE) or "{}").items()}

    def camera(self, id: int) -> Camera:
        """Return the camera of a keyframe. Raises KeyError if there is no such keyframe."""
        (text,) = self.row(
            id, "SELECT json FROM keyframes JOIN cameras ON cameras.id=camera WHERE keyframes.id=?"
        )
        try:
            return Camera(**json.loads(text))
        except UNREADABLE as error:
            raise StoreError(
                f"the camera of keyframe {id} in {self.folder} cannot be read: {error}"
            ) from error

    def without_depth(self) -> set[int]:
        """Return the ids of keyframes without a depth map, without reading their data."""
        return {row[0] for row in self.database.rows("SELECT id FROM images WHERE depth IS NULL")}

    def put_cache(self, id: int, name: str, version: object, blob: codec.Bytes) -> None:
        """Cache bytes derived from keyframe `id` (features, ...), replacing those of the same name.
        Raises KeyError if there is no such keyframe.
        """
        with self.database.writing(synced=False) as connection:
            if not connection.execute("SELECT 1 FROM keyframes WHERE id=?", (id,)).fetchone():
                raise KeyError(f"there is no keyframe {id} in {self.folder}")
            connection.execute(
                "INSERT OR REPLACE INTO cache VALUES (?,?,?,?)", (id, name, str(version), blob)
            )

    def get_cache(self, id: int, name: str, version: object) -> bytes | None:
        """Return the bytes cached under this name and version; None if there are none."""
        rows = self.database.rows(
            "SELECT data FROM cache WHERE id=? AND name=? AND version=?", id, name, str(version)
        )
        return rows[0][0] if rows else None

    def cached(self, name: str, version: object) -> set[int]:
        """Return the ids for which bytes are cached under this name and version, without reading
        them.
        """
        return {
            row[0]
            for row in self.database.rows(
                "SELECT id FROM cache WHERE name=? AND version=?", name, str(version)
            )
        }

    @property
    def has_images(self) -> bool:
        """Whether images are stored. A map saved without them can localize but not be refined."""
        return self.get_note(IMAGES) != "none"

    def forget_images(self) -> None:
        """Delete all images, depth maps and cached data, and overwrite them in the file. Poses and
        cameras stay.
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

    def note(self, name: str, text: str | None) -> None:
        """Store a short text about the whole store, such as the name of the odometry frame; None
        removes it.
        """
        with self.database.writing() as connection:
            connection.execute("DELETE FROM notes WHERE name=?", (name,))
            if text is not None:
                connection.execute("INSERT INTO notes VALUES (?,?)", (name, text))

    def get_note(self, name: str) -> str | None:
        """Return the text of :meth:`note`; None if there is none."""
        rows = self.database.rows("SELECT text FROM notes WHERE name=?", name)
        return rows[0][0] if rows else None

    def revision(self) -> int:
        """Return a number that grows with every put and clear, in any process."""
        return int(self.database.rows("SELECT number FROM revision")[0][0])

    def clear(self) -> None:
        """Delete all keyframes, everything derived from them, the notes and the snapshots."""
        with self.database.lock, explained(self.folder):
            with self.database.writing():
                self.forget_keyframes()
            self.database.rows("PRAGMA incremental_vacuum")
            if self.snapshots.exists():
                shutil.rmtree(self.snapshots)

    def forget_keyframes(self) -> None:
        """Delete all keyframes and notes. Call it within a transaction."""
        # Images whose keyframes have not arrived yet are not deleted by the cascade.
        for statement in (
            *(
                f"DELETE FROM {table}"
                for table in ("keyframes", "images", "cache", "cameras", "notes")
            ),
            "UPDATE revision SET number=number+1",
        ):
            self.database.connection.execute(statement)

    def backup(self, folder: str | Path, progress: Callable[[], object] = lambda: None) -> None:
        """Write a consistent copy of the database into another folder while others read and write;
        see Database.backup.
        """
        self.database.backup(folder, progress)

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    def __enter__(self) -> "KeyframeStore":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def row(self, id: int, query: str) -> Row:
        """Return the row of a query by keyframe id. Raises KeyError if there is no such keyframe,
        DamagedKeyframe if the row is missing.
        """
        rows = self.database.rows(query, id)
        if rows:
            return rows[0]
        if id in self:
            raise DamagedKeyframe(
                f"keyframe {id} in {self.folder} cannot be read: its image or camera is missing"
            )
        raise KeyError(f"there is no keyframe {id} in {self.folder}")


def _motion(row: Row, kept: bool) -> tuple[Floats | None, Floats | None]:
    """Return (T_odom_cam, covariance or None) of a row of keyframes; (None, None) if one that is
    set aside cannot be read.
    """
    try:
        return matrix(row[2], 4), None if row[3] is None else matrix(row[3], 6)
    except UNREADABLE:
        if kept:
            raise
        return None, None


def _coded(
    keyframe: Keyframe, encoded_image: codec.Bytes | None, image_encoding: str
) -> tuple[bytes, str, bytes | None, str | None]:
    """Return the last four columns of the images table."""
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


# what decoding damaged values may raise
UNREADABLE = (ValueError, TypeError, AttributeError, RecursionError, OverflowError, MemoryError)
