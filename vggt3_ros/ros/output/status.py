"""Publish status, status_marker and /diagnostics: activity, accepted and refused input, errors."""

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from std_msgs.msg import Header
from visualization_msgs.msg import Marker

from vggt3_ros.msg import Status
from vggt3_ros.refinement.odometry_breaks import told
from vggt3_ros.ros import qos
from vggt3_ros.ros.output.facts import facts
from vggt3_ros.ros.output.status_marker import STATES, to_marker

ACKNOWLEDGED = qos.KEYFRAME_QUEUE // 5  # keyframes after which a status is published
NAMED = 5  # most entries listed in full
RECENT = 10  # keyframes for which an odometry break remains a warning
HIDDEN = ("stamp", "state", "error_msg")


class StatusPublisher:
    """core: the node's Core; localize: its LocalizeService."""

    def __init__(self, node, core, localize):
        self._node, self._core, self._localize = node, core, localize
        self._status = node.create_publisher(
            Status, "status", qos.own(qos.LATCHED), qos_overriding_options=qos.overridable()
        )
        self._marker = node.create_publisher(
            Marker, "status_marker", qos.own(qos.LATCHED), qos_overriding_options=qos.overridable()
        )
        self._diagnostics = node.create_publisher(
            DiagnosticArray,
            "/diagnostics",
            qos.own(qos.EVENTS),
            qos_overriding_options=qos.overridable(),
        )
        self._state, self._received = None, 0

    def publish_if_changed(self):
        """Publish if the state changed, or after a few keyframes, because front ends wait for the
        acknowledgement.
        """
        if (
            self._state != self._current_state()
            or self._core.intake.received - self._received >= ACKNOWLEDGED
        ):
            self.publish()

    def publish(self):
        message = self.message()
        self._state, self._received = message.state, message.received
        self._status.publish(message)
        self._diagnostics.publish(self._as_diagnostics(message))
        if self._marker.get_subscription_count():
            header = Header(stamp=message.stamp, frame_id=self._core.parameters.node.map_frame)
            self._marker.publish(to_marker(message, header, self._newest_position()))

    def _newest_position(self):
        """Return (3,) of the newest camera in the map; its origin if there is none."""
        snapshot = self._core.snapshot
        if snapshot is None or not len(snapshot):
            return np.zeros(3)
        return snapshot.T_map_cam[snapshot.newest, :3, 3]

    def _current_state(self):
        worker = self._core.worker
        if not worker.ready:
            return Status.FAULT if worker.pid and worker.fault else Status.STARTING
        if self._core.refinery.running:
            return Status.REFINING
        return Status.DISTILLING if worker.distilling else Status.IDLE

    def message(self):
        core, intake, refinery, worker = (
            self._core,
            self._core.intake,
            self._core.refinery,
            self._core.worker,
        )
        message = Status(
            stamp=self._node.get_clock().now().to_msg(),
            state=self._current_state(),
            phase=refinery.phase,
            progress=float(refinery.progress),
            keyframes=len(core.store),
            received=intake.received,
            updated=intake.updated,
            not_stored=intake.not_stored,
            refused=intake.refused,
            last_refusal=intake.last_refusal,
            input_msg=intake.input_msg,
            refinement_seconds=refinery.seconds,
            refinement_age=refinery.age,
            worker_restarts=worker.restarts,
            worker_memory_mb=int(worker.memory_mb),
            mode=Status.LOCALIZATION if core.localizing else Status.MAPPING,
            withheld=core.map_odom.withheld,
            localizations=self._localize.asked + core.tracker.asked,
            localized=self._localize.localized + core.tracker.localized,
            error_msg=worker.fault or intake.fault or refinery.error,
            set_aside=_named(core.store),
            memory_msg=worker.memory_msg,
            device_memory_mb=int(worker.device_mb),
            images_dropped=core.intake.images_dropped,
            running_on=worker.running_on,
        )
        snapshot = core.snapshot
        if snapshot is not None:
            accepted = sum(loop.accepted for loop in snapshot.loops)
            message.generation, message.keyframes_refined, message.map_points = (
                snapshot.generation,
                len(snapshot),
                len(snapshot.cloud),
            )
            message.odometry_msg = _last(
                [str(broken) for broken in self._breaks(snapshot)],
                "earlier odometry breaks",
            )
            message.loops_accepted, message.loops_rejected = (
                accepted,
                len(snapshot.loops) - accepted,
            )
        return message

    def _breaks(self, snapshot):
        return (
            told(snapshot.report, self._core.store.public_ids()) if told(snapshot.report) else ()
        )

    def _as_diagnostics(self, message):
        level = {Status.FAULT: DiagnosticStatus.ERROR, Status.STARTING: DiagnosticStatus.WARN}.get(
            message.state, DiagnosticStatus.OK
        )
        level = DiagnosticStatus.ERROR if self._core.intake.fault else level
        snapshot = self._core.snapshot
        empty = snapshot.report.get("empty", ()) if snapshot is not None else ()
        lost = message.odometry_msg if _just_broke(snapshot) else ""
        reasons = [
            text
            for text in (
                message.error_msg,
                message.withheld,
                message.set_aside,
                message.memory_msg,
                lost,
                *empty,
            )
            if text
        ]
        if reasons and level == DiagnosticStatus.OK:
            level = DiagnosticStatus.WARN
        text = ": ".join([STATES[message.state], *reasons])
        values = {
            n: str(getattr(message, n))
            for n in message.get_fields_and_field_types()
            if n not in HIDDEN
        }
        values |= facts(self._core)
        status = DiagnosticStatus(
            level=level,
            name=f"{self._node.get_fully_qualified_name().lstrip('/')}: back end",
            message=text,
            hardware_id="vggt3_ros",
            values=[KeyValue(key=n, value=v) for n, v in values.items()],
        )
        out = DiagnosticArray(status=[status])
        out.header.stamp = message.stamp
        return out

    def destroy(self):
        self._node.destroy_publisher(self._status)
        self._node.destroy_publisher(self._marker)
        self._node.destroy_publisher(self._diagnostics)


def _just_broke(snapshot):
    """Return whether odometry broke before one of the newest keyframes of a Snapshot (or None)."""
    if snapshot is None:
        return False
    newest = snapshot.keyframe_ids[np.lexsort((snapshot.stamps_ns, snapshot.sessions))[-RECENT:]]
    return any(broken.after in newest for broken in told(snapshot.report))


def _named(store):
    """Return which keyframes are set aside, and why, on one line; only the newest in full."""
    aside = store.aside()
    if not aside:
        return ""
    public_ids = store.public_ids()
    return _last(
        [
            f"keyframe {public_ids.get(id, id)} is set aside: {reason}"
            for id, reason in sorted(aside.items())
        ],
        "more keyframes are set aside",
    )


def _last(texts, others):
    """Return the last few texts on one line, and the number of `others`."""
    return "; ".join(
        ([f"{len(texts) - NAMED} {others}"] if len(texts) > NAMED else []) + texts[-NAMED:]
    )
