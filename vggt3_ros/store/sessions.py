"""Runs of front ends in one store: a new one begun, keyframes of another store taken in."""

import json

import numpy as np

from vggt3_ros.store.database import PLACED, SESSION
from vggt3_ros.store.keyframes import FIRST_ID, LOADED

# note: JSON [first, number] of the ids whose images come before their keyframes do
ARRIVING = "arriving"


def begin_session(store):
    """A new run of a front end: its number. Keyframes held so far keep their ids, and get public
    ids that no front end gives.
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


def placed_sessions(store):
    """List of the sessions whose odometry is in the map's frame."""
    text = store.get_note(PLACED)
    if text is None and store.database.format == 1:
        # so it was when merging noted segments
        return list(range(int(store.poses().sessions.max(initial=0))))
    return json.loads(text or "[]")


def held_already(store, other):
    """How many keyframes of another KeyframeStore are here already: same stamp, same image."""
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


def replace_all(store, other, T_odom_cam, sessions, notes):
    """Forget what is held, and take all keyframes of another KeyframeStore with what is cached for
    them: all or nothing, in one transaction, for which whoever writes has to wait. T_odom_cam (N,
    4, 4), sessions (N,) in the order of other.ids(); notes: {name: text} to set as well.
    """
    ids, public_ids = other.ids(), other.public_ids()
    with store.database.writing() as connection:
        store.forget_keyframes()
        for id, pose, session in zip(ids, np.asarray(T_odom_cam, "<f8"), sessions):
            _insert_keyframe(store, _row(other, id), id, public_ids[id], pose, session)
            _insert_images(connection, other, id, id)
        _note(connection, notes)


def add_all(store, other, ids, T_odom_cam, sessions, notes):
    """Take keyframes of another KeyframeStore, and what is cached for them, under new ids: all or
    nothing -> {id there: id here}.

    Arguments as of :func:`replace_all`, ids: which keyframes, (N,). Their images come one by one,
    and whoever else writes has a turn between two of them; nobody sees them before their keyframes
    are there, which are few bytes and one transaction. What is left when this is ended in between
    is dropped by :func:`drop_arrivals`, at the latest before others are added.
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


def add_without_images(store, other, new_ids, T_odom_cam, sessions, notes):
    """Take keyframes of another KeyframeStore, their poses and cameras alone, in one transaction.
    new_ids: {id there: id here}, from reserved ones; the other arguments are as of
    :func:`add_all`.
    """
    with store.database.writing() as connection:
        for (old, new), pose, session in zip(
            new_ids.items(), np.asarray(T_odom_cam, "<f8"), sessions
        ):
            _insert_keyframe(store, _row(other, old), new, new, pose, session)
        _note(connection, notes)


def drop_arrivals(store):
    """Remove images whose keyframes never came: adding them was ended in between."""
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


def _row(other, id):
    images = "JOIN images USING (id) " if other.has_images else ""
    return other.row(
        id,
        f"SELECT stamp_ns, json, covariance FROM keyframes {images}JOIN cameras ON cameras.id=camera "
        "WHERE keyframes.id=?",
    )


def _insert_keyframe(store, row, id, public_id, pose, session):
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


def _insert_images(connection, other, old, new):
    _row(other, old)  # raises where its image is missing
    for table in ("images", "cache"):
        for _, *data in other.database.rows(f"SELECT * FROM {table} WHERE id=?", old):
            connection.execute(
                f"INSERT INTO {table} VALUES (?,{','.join('?' * len(data))})", (new, *data)
            )


def _note(connection, notes):
    for name, text in notes.items():
        connection.execute("INSERT OR REPLACE INTO notes VALUES (?,?)", (name, text))
    connection.execute("UPDATE revision SET number=number+1")
