"""Write Keyframe messages to the store: each is checked, then acknowledged or refused with a
reason. A bad message never affects the next good one. Needs no rclpy.
"""

import json
import threading
import time
from collections import deque
from dataclasses import replace

import cv2
import numpy as np

from vggt3_ros.geometry import se3
from vggt3_ros.messages.levels import IMAGE_BITS, Levels
from vggt3_ros.messages.reading import MAX_FRAME_NAME, to_keyframe, to_nanoseconds, to_transform
from vggt3_ros.store.database import StoreError
from vggt3_ros.store.keyframe import check_covariance
from vggt3_ros.store.stereo_keyframe import with_stereo_depth
from vggt3_ros.store.stored_poses import chained

ODOM_FRAME = "odom_frame"  # saved in the store, so that TF is complete right after a restart
T_KEPT_FRONTEND = "T_kept_frontend"  # saved for the same reason
# Stamps farther ahead of all known clocks are refused: they would make all later keyframes too old.
AHEAD_SECONDS = 3600.0
# Number of consecutive skipped keyframes whose motion covariance is remembered, because any of them may
# be sent again.
SKIPPED = 64
SHOWN = 500  # characters shown of a refusal, because names in a message may have any length


class Intake:
    """Stores keyframes and counts them. Thread-safe. `added` is called after every keyframe that
    was stored or updated.

    T_kept_frontend (4, 4): the front end's current odometry frame in that of the keyframes;
    identity until it jumps (see pose_track). track: incremented whenever the keyframes are
    discarded. input_msg: what the input is waiting for, for the status. now_ns(): the node's
    clock, nanoseconds; 0 if it has not started. fault: why the last keyframe could not be stored,
    empty if it was. Every received keyframe that is counted neither in refused nor in not_stored
    is on disk: front ends use this as the acknowledgement.
    """

    def __init__(self, store, odom_frame, added, logger, map_frame="", now_ns=time.time_ns):
        self._store, self._added, self._log, self._map_frame, self._now_ns = (
            store,
            added,
            logger,
            map_frame,
            now_ns,
        )
        self._lock = threading.Lock()
        self._configured_frame = odom_frame
        # Empty: the frame of the first keyframe.
        self.odom_frame = odom_frame or store.get_note(ODOM_FRAME) or ""
        self.camera_frame = ""
        self.received = self.updated = self.refused = self.not_stored = self.images_dropped = 0
        self.last_refusal = self.fault = ""
        self.newest_stamp_ns = self._newest()
        self._instead, self._why_not = None, ""
        # (stamp, T_odom_cam, covariance since the last stored keyframe) of skipped keyframes; the last two
        # are None where unknown.
        self._skipped = deque(maxlen=SKIPPED)
        # Ids whose covariance spans skipped keyframes: not replaced when they are sent again.
        self._spanning = set()
        self.levels = self._noted_levels()
        self.input_msg, self.track = "", 0
        self.T_kept_frontend = self._noted_jump()

    def _noted_jump(self):
        noted = self._store.get_note(T_KEPT_FRONTEND)
        try:
            return se3.check(json.loads(noted), T_KEPT_FRONTEND) if noted else np.eye(4)
        except (TypeError, ValueError) as error:
            self._log.error(f"ignoring the front end's jump saved in the store: {error}")
            return np.eye(4)

    def _noted_levels(self):
        """Return the Levels of the images in the store. A store that is only served is not
        modified.
        """
        return Levels.noted(self._store.get_note(IMAGE_BITS), self._note_bits)

    def _note_bits(self, bits):
        if self._instead is None:
            self._store.note(IMAGE_BITS, str(bits))

    def store(self):
        """Store keyframes from now on, the initial state."""
        with self._lock:
            self._instead, self._why_not = None, ""

    def divert(self, instead):
        """Pass keyframes to `instead`, called with the Keyframe, from now on and store none."""
        with self._lock:
            self._instead, self._why_not = instead, ""

    def close(self, reason):
        """Refuse keyframes from now on for this reason."""
        with self._lock:
            self._why_not = reason

    def take(self, message):
        """Store a vggt3_ros/Keyframe. Returns the Keyframe, None if it was refused. Never raises:
        a refusal is counted, kept in last_refusal and logged.
        """
        with self._lock:
            try:
                if self._why_not:
                    raise ValueError(self._why_not)
                self._check_order(message)
                sent, encoded = to_keyframe(message, self.levels.to_8_bits)
                keyframe = with_stereo_depth(sent)
                if self._instead is not None:
                    self.odom_frame = message.header.frame_id
                    self._skip(
                        keyframe.stamp_ns, keyframe.T_odom_cam, keyframe.odometry_covariance
                    )
                    self._instead(keyframe)
                    self.received += 1
                    self.not_stored += 1
                    return keyframe
                self._check_stamp(keyframe)
                if not self.odom_frame:
                    self._store.note(ODOM_FRAME, message.header.frame_id)
                    self.odom_frame = message.header.frame_id
                outcome = self._store.put(
                    self._spanned(keyframe), encoded, message.compressed_image.format
                )
            except (ValueError, OverflowError, MemoryError, cv2.error) as error:
                self.fault = (
                    f"cannot store keyframes: {error}"
                    if isinstance(error, StoreError)
                    else self.fault
                )
                self._leave_out(message)
                self._refuse(f"keyframe {message.id}: {error}")
                return None
            self.camera_frame = message.camera_frame_id[:MAX_FRAME_NAME]
            self.newest_stamp_ns = max(self.newest_stamp_ns, keyframe.stamp_ns)
            self.updated += outcome == "updated"
            if outcome == "added":
                if self._skipped_before(keyframe.stamp_ns) is not None:
                    self._spanning.add(keyframe.id)
                self._skipped.clear()
            self.fault = ""
            self.received += 1
        self._added()
        return keyframe

    def _leave_out(self, message):
        """Account for a refused message. If it was the next keyframe, the covariance of the
        following one covers only the motion since it.
        """
        if (
            self.odom_frame and message.header.frame_id != self.odom_frame
        ) or message.id in self._spanning:
            return
        stamp_ns = to_nanoseconds(message.header.stamp)
        if stamp_ns <= self.newest_stamp_ns:
            return
        try:
            covariance = np.asarray(message.odometry_covariance, float).reshape(6, 6)
            self._skip(
                stamp_ns,
                to_transform(message.t_odom_camera),
                check_covariance(covariance) if covariance.any() else None,
            )
        except ValueError:
            self._skip(stamp_ns, None, None)

    def _skip(self, stamp_ns, T_odom_cam, covariance):
        """Remember a skipped keyframe and the covariance since the last stored one."""
        before = self._skipped_before(stamp_ns)
        self._skipped.append(
            (
                stamp_ns,
                T_odom_cam,
                covariance if before is None else _chained(before, T_odom_cam, covariance),
            )
        )

    def _skipped_before(self, stamp_ns):
        """Return (T_odom_cam, covariance) of the last skipped keyframe before this stamp, or None.
        A keyframe that is sent again is not before itself.
        """
        while self._skipped and self._skipped[-1][0] >= stamp_ns:
            self._skipped.pop()
        return self._skipped[-1][1:] if self._skipped else None

    def _spanned(self, keyframe):
        """Return the Keyframe with the covariance of its motion since the last stored keyframe;
        None if unknown.
        """
        if keyframe.id in self._spanning:
            return replace(keyframe, odometry_covariance=None)  # the store keeps its covariance
        if keyframe.stamp_ns <= self.newest_stamp_ns:
            return keyframe
        before = self._skipped_before(keyframe.stamp_ns)
        return (
            keyframe
            if before is None
            else replace(
                keyframe,
                odometry_covariance=_chained(
                    before, keyframe.T_odom_cam, keyframe.odometry_covariance
                ),
            )
        )

    def refuse(self, reason):
        """Count input that could not even become a Keyframe message."""
        with self._lock:
            self._refuse(reason)

    def _refuse(self, reason):
        self.refused += 1
        self.received += 1
        self.last_refusal = shown(reason)
        self._log.warning(f"refused {self.last_refusal}", throttle_duration_sec=1.0)

    def moved(self, T_kept_frontend):
        """Record that the front end's odometry frame jumped to T_kept_frontend (4, 4)."""
        with self._lock:
            self.T_kept_frontend = T_kept_frontend
            if self._instead is not None or self._why_not:
                return  # the store belongs to another run
            try:
                self._store.note(T_KEPT_FRONTEND, json.dumps(T_kept_frontend.tolist()))
            except ValueError as error:  # StoreError; it stays valid in this process
                self._log.error(f"cannot save the front end's jump: {error}")

    def forget(self):
        """Reset after the store was cleared."""
        with self._lock:
            self.newest_stamp_ns = self._newest()
            self.odom_frame = self._configured_frame
            self.T_kept_frontend = np.eye(4)
            self.levels = self._noted_levels()
            self._skipped.clear()
            self._spanning = set()
            self.track += 1

    def _newest(self):
        poses = self._store.poses(aside=True)
        return int(poses.stamps_ns[poses.sessions == self._store.session].max(initial=-1))

    def _check_order(self, message):
        if not message.header.frame_id:
            raise ValueError("header.frame_id is empty: it must name the odometry frame")
        if (
            len(message.header.frame_id) > MAX_FRAME_NAME
            or not message.header.frame_id.isprintable()
        ):
            raise ValueError(
                f"header.frame_id must be at most {MAX_FRAME_NAME} printable characters, got {len(message.header.frame_id)}"
            )
        if message.header.frame_id == self._map_frame:
            raise ValueError(
                f"header.frame_id is '{self._map_frame}', the name of this node's map frame: rename one of them "
                "(parameter map_frame), because TF needs two frames"
            )
        if self.odom_frame and message.header.frame_id != self.odom_frame:
            raise ValueError(
                f"header.frame_id is '{message.header.frame_id}', but the previous poses are in '{self.odom_frame}'"
            )

    def _check_stamp(self, keyframe):
        now_ns = self._now_ns()
        ahead = (keyframe.stamp_ns - max(now_ns, self.newest_stamp_ns)) / 1e9
        if now_ns and ahead > AHEAD_SECONDS:
            raise ValueError(
                f"header.stamp {keyframe.stamp_ns / 1e9:.3f} is {ahead:.0f} s ahead of this node's clock and of all "
                "earlier keyframes: check the clocks and use_sim_time"
            )
        if keyframe.stamp_ns < self.newest_stamp_ns and self._store.find(keyframe.id) is None:
            raise ValueError(
                f"header.stamp {keyframe.stamp_ns / 1e9:.6f} is {(self.newest_stamp_ns - keyframe.stamp_ns) / 1e9:.3f} s "
                "before the newest keyframe's: did the clock or the bag restart? Call reset, or set_mode with new_session"
            )


def _chained(skipped, T_odom_cam, covariance):
    """Return the covariance of the motion since before the skipped keyframe; None if unknown."""
    T_odom_before, since = skipped
    if T_odom_before is None or T_odom_cam is None:
        return None
    return chained(since, se3.inverse(T_odom_before) @ T_odom_cam, covariance)


def shown(text):
    """Return external text for log and status: of bounded length, on one line."""
    text = text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)
