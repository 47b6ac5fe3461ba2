"""Spin a node in a thread of its own, and shut it down in an order that cannot deadlock."""

import threading

from rclpy.exceptions import InvalidHandle
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

# An executor that is shut down just before it begins to wait would never wake up by itself.
WAKE_SECONDS = 0.2
END_SECONDS = 10.0


class Spinner:
    """Spins `node` until :meth:`close`, which waits for the running callback and then destroys the
    node.

    failed() is called in the exception handler if a callback raises; spinning continues. Without
    it, the exception ends the thread. Destroying a node under a running executor is a race in
    rclpy: Executor.shutdown does not wait for the thread that spins.
    """

    def __init__(self, node, failed=None):
        self._node, self._failed, self._closing = node, failed, threading.Event()
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(node)
        self._thread = threading.Thread(
            target=self._spin, daemon=True, name=f"{node.get_name()} spins"
        )
        self._thread.start()

    def _spin(self):
        while not self._closing.is_set():
            try:
                self._executor.spin_once(timeout_sec=WAKE_SECONDS)
            except ExternalShutdownException:
                return
            except InvalidHandle:
                continue  # a subscription was destroyed in the meantime
            except Exception:
                if self._failed is None:
                    raise
                self._failed()

    def close(self):
        """Stop spinning and destroy the node. Raises RuntimeError if a callback does not return."""
        self._closing.set()
        self._thread.join(END_SECONDS)
        if self._thread.is_alive():
            raise RuntimeError(f"a callback of node {self._node.get_name()} does not return")
        self._executor.shutdown()
        self._node.destroy_node()
