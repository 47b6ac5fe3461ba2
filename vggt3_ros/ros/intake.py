"""Keyframe messages into the store: checked, acknowledged or refused with a reason; nothing bad stops the next good one."""

import threading

from vggt3_ros.ros.conversions import to_keyframe

ODOM_FRAME = "odom_frame"  # note in the store, so that TF is complete right after a restart


class Intake:
    """Counts what comes. `added` is called after every keyframe that was stored or updated. Safe to use from several threads."""

    def __init__(self, store, odom_frame, added, logger):
        self._store, self._added, self._log = store, added, logger
        self._lock = threading.Lock()
        self._configured_frame = odom_frame
        self.odom_frame = odom_frame or store.get_note(ODOM_FRAME) or ""  # empty: that of the first keyframe
        self.camera_frame = ""
        self.received = self.updated = self.refused = 0
        self.last_refusal = ""
        self.newest_stamp_ns = self._newest()

    def take(self, message):
        """One vggt3_ros/Keyframe. Never raises: a refusal is counted, kept in last_refusal and logged."""
        with self._lock:
            try:
                self._check_order(message)
                keyframe, encoded = to_keyframe(message)
                self._check_stamp(keyframe)
                if not self.odom_frame:
                    self._store.note(ODOM_FRAME, message.header.frame_id)
                    self.odom_frame = message.header.frame_id
                outcome = self._store.put(keyframe, encoded, message.compressed_image.format)
            except (ValueError, OverflowError, MemoryError) as error:  # StoreError is a ValueError
                self.refused += 1
                self.last_refusal = f"keyframe {message.id}: {error}"
                self.received += 1
                self._log.warning(f"refused {self.last_refusal}", throttle_duration_sec=1.0)
                return
            self.camera_frame = message.camera_frame_id
            self.newest_stamp_ns = max(self.newest_stamp_ns, keyframe.stamp_ns)
            self.updated += outcome == "updated"
            self.received += 1  # counted when it is on disk: front ends take this as the acknowledgement
        self._added()

    def forget(self):
        """After the store was cleared."""
        with self._lock:
            self.newest_stamp_ns = self._newest()
            self.odom_frame = self._configured_frame

    def _newest(self):
        return int(self._store.poses().stamps_ns.max(initial=-1))

    def _check_order(self, message):
        if not message.header.frame_id:
            raise ValueError("header.frame_id is empty: the odometry frame is needed")
        if self.odom_frame and message.header.frame_id != self.odom_frame:
            raise ValueError(f"header.frame_id is '{message.header.frame_id}', the poses so far are in '{self.odom_frame}'")

    def _check_stamp(self, keyframe):
        if keyframe.stamp_ns < self.newest_stamp_ns and keyframe.id not in self._store:
            raise ValueError(f"header.stamp {keyframe.stamp_ns / 1e9:.6f} is {(self.newest_stamp_ns - keyframe.stamp_ns) / 1e9:.3f} s "
                             "before the newest keyframe's: did the clock or the bag restart? call reset")
