"""Runs of front ends in one store: a new one begun, keyframes of another store taken in."""

import json

import numpy as np

from vggt3_ros.mapping.database import PLACED, SESSION
from vggt3_ros.mapping.store import ASIDE, FIRST_ID, LOADED


def begin_session(store):
    """A new run of a front end: its number. Keyframes held so far get ids that no front end gives -> (number, {old id: new id})."""
    with store.database.writing() as connection:
        number = store.session + 1
        taken, = connection.execute("SELECT max(id) FROM keyframes").fetchone()
        first = max(FIRST_ID, (taken or 0) + 1)
        rows = connection.execute("SELECT id FROM keyframes WHERE id<? ORDER BY session, stamp_ns, id", (FIRST_ID,)).fetchall()
        new_ids = {id: first + k for k, (id,) in enumerate(rows)}
        connection.execute("PRAGMA defer_foreign_keys=ON")
        for table in ("keyframes", "images", "cache"):
            connection.executemany(f"UPDATE {table} SET id=? WHERE id=?", [(new, old) for old, new in new_ids.items()])
        aside = {str(new_ids.get(id, id)): reason for id, reason in store.aside().items()}
        for name, text in ((SESSION, str(number)), (ASIDE, json.dumps(aside))):
            connection.execute("INSERT OR REPLACE INTO notes VALUES (?,?)", (name, text))
        connection.execute("DELETE FROM notes WHERE name=?", (LOADED,))
        connection.execute("UPDATE revision SET number=number+1")
    return number, new_ids


def placed_sessions(store):
    """List of the sessions whose odometry is in the map's frame."""
    text = store.get_note(PLACED)
    if text is None and not store.database.by_session:
        return list(range(int(store.poses().sessions.max(initial=0))))  # so it was when merging noted segments
    return json.loads(text or "[]")


def held_already(store, other):
    """How many keyframes of another KeyframeStore are here already: same stamp, same image."""
    ours = dict(store.database.rows("SELECT stamp_ns, id FROM keyframes"))
    pairs = [(id, ours[stamp]) for id, stamp in other.database.rows("SELECT id, stamp_ns FROM keyframes") if stamp in ours]
    query = "SELECT image FROM images WHERE id=?"
    return sum(other.database.rows(query, theirs) == store.database.rows(query, mine) for theirs, mine in pairs)


def absorb(store, other, new_ids, T_odom_cam, notes, clear=False, sessions=None):
    """Take keyframes of another KeyframeStore and what is cached for them, all or nothing.

    new_ids: {id there: id here}; T_odom_cam (N, 4, 4) and sessions (N,) in that order (None: session 0); notes: {name: text} to set as
    well; clear: forget all else.
    """
    with store.database.writing() as connection:
        if clear:
            store.forget_keyframes()
        sessions = np.zeros(len(new_ids), int) if sessions is None else sessions
        for (old, new), pose, session in zip(new_ids.items(), np.asarray(T_odom_cam, "<f8"), sessions):
            stamp_ns, camera, covariance = other.row(old, "SELECT stamp_ns, json, covariance FROM keyframes "
                                                          f"{'JOIN images USING (id) ' if other.has_images else ''}JOIN cameras ON cameras.id=camera WHERE keyframes.id=?")
            connection.execute("INSERT INTO keyframes VALUES (?,?,?,?,?,?)",
                               (new, stamp_ns, store.camera_row(camera), pose.tobytes(), covariance, int(session)))
            for table in ("images", "cache"):
                for _, *data in other.database.rows(f"SELECT * FROM {table} WHERE id=?", old):
                    connection.execute(f"INSERT INTO {table} VALUES (?,{','.join('?' * len(data))})", (new, *data))
        for name, text in notes.items():
            connection.execute("INSERT OR REPLACE INTO notes VALUES (?,?)", (name, text))
        connection.execute("UPDATE revision SET number=number+1")
