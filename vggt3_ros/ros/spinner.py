"""A node that is served by a thread of its own, and ended in an order that cannot hang."""

import threading

from rclpy.exceptions import InvalidHandle
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

# an executor that is shut down just before it begins to wait would never wake of itself
WAKE_SECONDS = 0.2
END_SECONDS = 10.0


class Spinner:
    """Serves `node` from now until :meth:`close`, which waits for the callback that runs, then
    destroys the node.

    failed() is called in the handler of what a callback raises, which then goes on; without, it
    ends the thread. Destroying it under a running executor is a race in rclpy: Executor.shutdown
    does not wait for the thread that spins.
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
                continue  # a subscription was destroyed meanwhile
            except Exception:
                if self._failed is None:
                    raise
                self._failed()

    def close(self):
        """RuntimeError when a callback does not end."""
        self._closing.set()
        self._thread.join(END_SECONDS)
        if self._thread.is_alive():
            raise RuntimeError(f"a callback of node {self._node.get_name()} does not end")
        self._executor.shutdown()
        self._node.destroy_node()
