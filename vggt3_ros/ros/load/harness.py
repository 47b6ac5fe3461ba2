"""Shared by the load tools: an rclpy context in a namespace of its own, and waiting for a node to
start.
"""

import time
from contextlib import contextmanager

import rclpy
from rclpy.context import Context
from rclpy.signals import SignalHandlerOptions

from vggt3_ros.msg import Status
from vggt3_ros.ros.clients.processes import wait_until
from vggt3_ros.system.environment import shorten_switch_interval

# Isolates the test from robots on the same network.
NAMESPACE = ["-r", "__ns:=/vggt3_load", "-r", "/tf:=tf"]
START_SECONDS = 120.0


@contextmanager
def ros():
    """Yield an rclpy context in a namespace of its own. Ctrl-C keeps Python's handler."""
    shorten_switch_interval()  # other threads of this process must not delay its callbacks
    context = Context()
    with rclpy.init(
        args=["--ros-args", *NAMESPACE],
        context=context,
        signal_handler_options=SignalHandlerOptions.NO,
    ):
        yield context


def ready(observer, backend, log):
    """Wait until the node and its worker are up and have discovered this process."""
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
        "the back end does not start",
    )
    time.sleep(1.0)
