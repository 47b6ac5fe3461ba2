"""Sessions (runs of the front end) in one store: begin a new one, or import the keyframes of
another store.
"""

import json
import sqlite3
from collections.abc import Mapping, Sequence

import numpy as np

from vggt3_ros.store.database import PLACED, SESSION
from vggt3_ros.store.keyframes import FIRST_ID, LOADED, KeyframeStore, Row

# note: JSON [first, count] of the ids whose images are inserted before their keyframes
ARRIVING = "arriving"


def begin_session(store: KeyframeStore) -> int:
    """Begin a new session and return its number. Existing keyframes keep their ids and get public
    ids that no front end uses.
    """
    with store.database.writing() as connection:
        number = store.session + 1
        rows = connection.execute(
            "SELECT id FROM keyframes WHERE session=? OR public_id<? ORDER BY session, stamp_ns, id",
            (number - 1, FIRST_ID),
        ).fetchall()
        first = store.reserve(len(rows))
        connection.executemany(
            "UPDATE keyframes SET public_id=? WHERE id=?",
            [(first + k, id) for k, (id,) in enumerate(rows)],
        )
        connection.execute("INSERT OR REPLACE INTO notes VALUES (?,?)", (SESSION, str(number)))
        connection.execute("DELETE FROM notes WHERE name=?", (LOADED,))
        connection.execute("UPDATE revision SET number=number+1")
    return number


def placed_sessions(store: KeyframeStore) -> list[int]:
    """Return the sessions whose odometry is in the map frame."""
    text = store.get_note(PLACED)
    if text is None and store.database.format == 1:
        # in format 1, merging put all segments but the last into the map frame
        return list(range(int(store.poses().sessions.max(initial=0))))
    return list(json.loads(text or "[]"))


def held_already(store: KeyframeStore, other: KeyframeStore) -> int:
    """Return how many keyframes of another store are already in this one, with the same stamp and
    image.
    """
    ours = dict(store.database.rows("SELECT stamp_ns, id FROM keyframes"))
    pairs = [
        (id, ours[stamp])
        for id, stamp in other.database.rows("SELECT id, stamp_ns FROM keyframes")
        if stamp in ours
    ]
    query = "SELECT image FROM images WHERE id=?"
    return sum(
        other.database.rows(query, theirs) == store.database.rows(query, mine)
        for theirs, mine in pairs
    )


def replace_all(
    store: KeyframeStore,
    other: KeyframeStore,
    T_odom_cam: np.ndarray,
    sessions: Sequence[int] | np.ndarray,
    notes: Mapping[str, str],
) -> None:
    """Replace the content of a store by the keyframes and cached data of another, in one
    transaction, during which other writers wait.

    T_odom_cam (N, 4, 4) and sessions (N,): in the order of other.ids(). notes: {name: text} to set
    in the same transaction.
    """
    ids, public_ids = other.ids(), other.public_ids()
    with store.database.writing() as connection:
        store.forget_keyframes()
        for id, pose, session in zip(ids, np.asarray(T_odom_cam, "<f8"), sessions):
            _insert_keyframe(store, _row(other, id), id, public_ids[id], pose, session)
            _insert_images(connection, other, id, id)
        _note(connection, notes)


def add_all(
    store: KeyframeStore,
    other: KeyframeStore,
    ids: Sequence[int] | np.ndarray,
    T_odom_cam: np.ndarray,
    sessions: Sequence[int] | np.ndarray,
    notes: Mapping[str, str],
) -> dict[int, int]:
    """Add keyframes of another store and their cached data under new ids, all or none. Return
    {id there: id here}.

    ids (N,): which keyframes; the other arguments as for :func:`replace_all`, in the order of ids.
    Images are inserted one by one, so that other writers get a turn between them. They are
    invisible until their keyframes, which are small, are inserted in one transaction. What an
    interrupted call leaves behind is removed by :func:`drop_arrivals`, at the latest by the next
    call.
    """
    drop_arrivals(store)
    with store.database.writing() as connection:
        first = store.reserve(len(ids))
        connection.execute(
            "INSERT OR REPLACE INTO notes VALUES (?,?)", (ARRIVING, json.dumps([first, len(ids)]))
        )
    new_ids = {int(id): first + k for k, id in enumerate(ids)}
    try:
        for old, new in new_ids.items():
            with store.database.writing(synced=False, foreign_keys=False) as connection:
                _insert_images(connection, other, old, new)
        with store.database.writing() as connection:
            for (old, new), pose, session in zip(
                new_ids.items(), np.asarray(T_odom_cam, "<f8"), sessions
            ):
                _insert_keyframe(store, _row(other, old), new, new, pose, session)
            connection.execute("DELETE FROM notes WHERE name=?", (ARRIVING,))
            _note(connection, notes)
    except BaseException:
        drop_arrivals(store)
        raise
    return new_ids


def add_without_images(
    store: KeyframeStore,
    other: KeyframeStore,
    new_ids: Mapping[int, int],
    T_odom_cam: np.ndarray,
    sessions: Sequence[int] | np.ndarray,
    notes: Mapping[str, str],
) -> None:
    """Add only the poses and cameras of keyframes of another store, in one transaction. new_ids:
    {id there: reserved id here}; the other arguments as for :func:`add_all`.
    """
    with store.database.writing() as connection:
        for (old, new), pose, session in zip(
            new_ids.items(), np.asarray(T_odom_cam, "<f8"), sessions
        ):
            _insert_keyframe(store, _row(other, old), new, new, pose, session)
        _note(connection, notes)


def drop_arrivals(store: KeyframeStore) -> None:
    """Delete images whose keyframes never arrived because :func:`add_all` was interrupted."""
    note = store.get_note(ARRIVING)
    if note is None:
        return
    first, count = json.loads(note)
    for table in ("images", "cache"):
        for (id,) in store.database.rows(
            f"SELECT DISTINCT id FROM {table} WHERE id>=? AND id<?", first, first + count
        ):
            with store.database.writing(synced=False) as connection:
                connection.execute(
                    f"DELETE FROM {table} WHERE id=? AND id NOT IN (SELECT id FROM keyframes)",
                    (id,),
                )
    store.note(ARRIVING, None)


def _row(other: KeyframeStore, id: int) -> Row:
    images = "JOIN images USING (id) " if other.has_images else ""
    return other.row(
        id,
        f"SELECT stamp_ns, json, covariance FROM keyframes {images}JOIN cameras ON cameras.id=camera "
        "WHERE keyframes.id=?",
    )


def _insert_keyframe(
    store: KeyframeStore, row: Row, id: int, public_id: int, pose: np.ndarray, session: int
) -> None:
    stamp_ns, camera, covariance = row
    store.database.connection.execute(
        "INSERT INTO keyframes VALUES (?,?,?,?,?,?,?)",
        (
            id,
            stamp_ns,
            store.camera_row(camera),
            pose.tobytes(),
            covariance,
            int(session),
            public_id,
        ),
    )


def _insert_images(
    connection: sqlite3.Connection, other: KeyframeStore, old: int, new: int
) -> None:
    _row(other, old)  # raises if its image is missing
    for table in ("images", "cache"):
        for _, *data in other.database.rows(f"SELECT * FROM {table} WHERE id=?", old):
            connection.execute(
                f"INSERT INTO {table} VALUES (?,{','.join('?' * len(data))})", (new, *data)
            )


def _note(connection: sqlite3.Connection, notes: Mapping[str, str]) -> None:
    for name, text in notes.items():
        connection.execute("INSERT OR REPLACE INTO notes VALUES (?,?)", (name, text))
    connection.execute("UPDATE revision SET number=number+1")
