"""What every load tool needs: a context of rclpy in a namespace of its own, and a node that has
come up.
"""

import time
from contextlib import contextmanager

import rclpy
from rclpy.context import Context
from rclpy.signals import SignalHandlerOptions

from vggt3_ros.msg import Status
from vggt3_ros.ros.clients.processes import wait_until
from vggt3_ros.system.environment import shorten_switch_interval

# a robot that happens to be in reach must not hear of this
NAMESPACE = ["-r", "__ns:=/vggt3_load", "-r", "/tf:=tf"]
START_SECONDS = 120.0


@contextmanager
def ros():
    """A context of rclpy of its own, in a namespace of its own. Ctrl-C stays Python's."""
    shorten_switch_interval()  # what this process does besides must not make it hear late
    context = Context()
    with rclpy.init(
        args=["--ros-args", *NAMESPACE],
        context=context,
        signal_handler_options=SignalHandlerOptions.NO,
    ):
        yield context


def ready(observer, backend, log):
    """Until the node and its worker are up and know this process."""
    wait_until(
        lambda: (
            observer.status is not None
            and observer.status.state == Status.IDLE
            and observer.keyframes.get_subscription_count()
            and observer.localizer.service_is_ready()
        ),
        START_SECONDS,
        backend,
        log,
        "the back end does not come up",
    )
    time.sleep(1.0)
