"""Topics status and /diagnostics: what the back end does, what it took and refused, what went wrong."""

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from vggt3_ros.msg import Status
from vggt3_ros.ros import qos

STATES = {Status.IDLE: "idle", Status.REFINING: "refining", Status.STARTING: "worker starting", Status.FAULT: "fault"}
HIDDEN = ("stamp", "state", "error_msg")


class StatusPublisher:
    """`core` is the node's Core, `localize` its LocalizeService."""

    def __init__(self, node, core, localize):
        self._node, self._core, self._localize = node, core, localize
        self._status = node.create_publisher(Status, "status", qos.own(qos.LATCHED), qos_overriding_options=qos.overridable())
        self._diagnostics = node.create_publisher(DiagnosticArray, "/diagnostics", qos.EVENTS)
        self._state = None

    def publish_if_changed(self):
        if self._state != self._current_state():
            self.publish()

    def publish(self):
        message = self.message()
        self._state = message.state
        self._status.publish(message)
        self._diagnostics.publish(self._as_diagnostics(message))

    def _current_state(self):
        worker = self._core.worker
        if not worker.ready:
            return Status.FAULT if worker.pid and worker.fault else Status.STARTING
        return Status.REFINING if self._core.refinery.running else Status.IDLE

    def message(self):
        core, intake, refinery, worker = self._core, self._core.intake, self._core.refinery, self._core.worker
        message = Status(
            stamp=self._node.get_clock().now().to_msg(), state=self._current_state(), phase=refinery.phase,
            progress=float(refinery.progress), keyframes=len(core.store), received=intake.received, updated=intake.updated,
            refused=intake.refused, last_refusal=intake.last_refusal, input_msg=intake.input_msg, refinement_seconds=refinery.seconds,
            refinement_age=refinery.age, worker_restarts=worker.restarts, worker_memory_mb=int(worker.memory_mb),
            mode=Status.LOCALIZATION if core.localizing else Status.MAPPING, withheld=core.map_odom.withheld,
            localizations=self._localize.asked + core.tracker.asked, localized=self._localize.localized + core.tracker.localized,
            error_msg=worker.fault or refinery.error)
        snapshot = core.snapshot
        if snapshot is not None:
            accepted = sum(loop.accepted for loop in snapshot.loops)
            message.generation, message.keyframes_refined, message.map_points = snapshot.generation, len(snapshot), len(snapshot.cloud)
            message.loops_accepted, message.loops_rejected = accepted, len(snapshot.loops) - accepted
        return message

    def _as_diagnostics(self, message):
        level = {Status.FAULT: DiagnosticStatus.ERROR, Status.STARTING: DiagnosticStatus.WARN}.get(message.state, DiagnosticStatus.OK)
        if message.error_msg and level == DiagnosticStatus.OK:
            level = DiagnosticStatus.WARN
        if message.withheld and level == DiagnosticStatus.OK:
            level = DiagnosticStatus.WARN
        text = STATES[message.state] + "".join(f": {reason}" for reason in (message.error_msg, message.withheld) if reason)
        values = {n: str(getattr(message, n)) for n in message.get_fields_and_field_types() if n not in HIDDEN}
        network = self._core.snapshot.report.get("network") if self._core.snapshot else None
        if network:
            values["network"] = network["summary"]
        status = DiagnosticStatus(level=level, name=f"{self._node.get_fully_qualified_name().lstrip('/')}: back end", message=text,
                                  hardware_id="vggt3_ros", values=[KeyValue(key=n, value=v) for n, v in values.items()])
        out = DiagnosticArray(status=[status])
        out.header.stamp = message.stamp
        return out

    def destroy(self):
        self._node.destroy_publisher(self._status)
        self._node.destroy_publisher(self._diagnostics)
