"""What the integration tests share: a back-end node and a client, each with an executor in a
thread of its own.
"""

import threading
import time

from nav_msgs.msg import Path
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.parameter import Parameter
from vggt3_ros.msg import Keyframe, Status
from waiting import until as until_within

from vggt3_ros.ros import qos
from vggt3_ros.ros.conversions import from_keyframe
from vggt3_ros.ros.main import THREADS, spin, start
from vggt3_ros.ros.node import BackendNode

QUICK = {
    "refine_every_keyframes": 0,
    "refine_every_seconds": 0.0,
    "idle_distillation": 0.0,
    "status_period": 0.1,
}


WAKE_SECONDS = 0.2


class Executor(MultiThreadedExecutor):
    """Ends when `ending` is set. Executor.shutdown, called while another thread is about to wait,
    destroys what would wake it.
    """

    def __init__(self, threads):
        super().__init__(threads)
        self.ending = threading.Event()

    def spin(self):
        while self.context.ok() and not self.ending.is_set():
            self.spin_once(timeout_sec=WAKE_SECONDS)


def until(condition, seconds=30.0):
    """See waiting.until; a node takes longer to start than a thread."""
    return until_within(condition, seconds)


class Graph:
    def __init__(self, folder):
        self.folder = folder
        self._running = []
        self.client = self._add(Node("test_client"), 4)
        self.keyframes = self.client.create_publisher(Keyframe, "keyframes", qos.KEYFRAMES)

    def _add(self, node, threads):
        executor = Executor(threads)
        executor.add_node(node)
        thread = threading.Thread(target=self._spin, args=(executor,), daemon=True)
        thread.start()
        self._running.append((node, executor, thread))
        return node

    @staticmethod
    def _spin(executor):
        try:
            spin(executor, get_logger("test"))
        except ExternalShutdownException:
            pass

    def backend(self, activate=True, wait=True, real=False, **parameters):
        """A node on the fake (or real) back end; unless told otherwise active, its worker ready
        and the client matched.
        """
        steps = {} if real else {"memory.steps": 1}  # how long the fake one refines
        values = {
            "store": str(self.folder / "store"),
            "map_folder": str(self.folder / "maps"),
            **QUICK,
            **steps,
            **parameters,
        }
        overrides = [
            Parameter(name.replace("__", "."), value=value) for name, value in values.items()
        ]
        kind = "vggt3_ros.backend:Backend" if real else "fake_backend:Backend"
        node = self._add(BackendNode(kind, parameter_overrides=overrides), THREADS)
        if activate:
            assert start(node)
            if wait:
                until(lambda: node._core.worker.ready, 90 if real else 30)
                until(lambda: self.keyframes.get_subscription_count())
        return node

    def stop(self, node):
        """End one node in order."""
        entry = next(entry for entry in self._running if entry[0] is node)
        self._running.remove(entry)
        _, executor, thread = entry
        if isinstance(node, BackendNode):
            node.stop()
        executor.ending.set()
        executor.wake()
        thread.join(10)
        assert not thread.is_alive(), "the executor does not end"
        executor.shutdown()  # waits for the callbacks
        if isinstance(node, BackendNode):
            node.close()
        node.destroy_node()

    def close(self):
        for node, _, _ in reversed(list(self._running)):
            self.stop(node)

    def listen(self, kind, topic, profile=qos.LATCHED):
        """A list that fills with what arrives."""
        heard = []
        self.client.create_subscription(kind, topic, heard.append, profile)
        return heard

    @staticmethod
    def heard_by_all(node, *topics):
        """Wait until the node's publishers of these topics, which are not latched, know their
        subscribers.
        """
        for publisher in node.publishers:
            if publisher.topic.rpartition("/")[2] in topics:
                until(publisher.get_subscription_count)

    def send(self, *keyframes, **options):
        for keyframe in keyframes:
            self.keyframes.publish(from_keyframe(keyframe, **options))

    def status(self):
        return self.listen(Status, "status")

    def call(self, kind, name, request, seconds=30.0):
        client = self.client.create_client(kind, name)
        assert client.wait_for_service(10), f"service {name} is not there"
        return self.wait(client.call_async(request), seconds)

    def ask(self, kind, name, request, seconds=30.0):
        """As call, for what may be asked twice: DDS can lose an answer sent before server and
        client know each other fully.
        """
        limit = time.monotonic() + seconds
        client = self.client.create_client(kind, name)
        while True:
            assert client.wait_for_service(10), f"service {name} is not there"
            future = client.call_async(request)
            patience = min(3.0, limit - time.monotonic())
            assert patience > 0, f"service {name} does not answer"
            done = threading.Event()
            # one given up may still be answered: that is not what is waited for now
            future.add_done_callback(lambda _, done=done: done.set())
            if done.wait(patience):
                return future.result()

    @staticmethod
    def wait(future, seconds=30.0):
        until(future.done, seconds)
        return future.result()

    def refined(self, *keyframes, backend):
        """Send keyframes and refine them once."""
        self.send(*keyframes)
        until(lambda: all(keyframe.id in backend._core.store for keyframe in keyframes))
        return backend._core.load_snapshot(backend._core.refinery.request().result(30))


__all__ = ["Graph", "Path", "until"]
