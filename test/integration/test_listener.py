"""Plain topics are served beside the rest of the node: by a thread of their own, as long as it is
active.
"""

import threading

import numpy as np
from camera_rig import T_BASE_CAM, CameraRig
from rclpy.callback_groups import ReentrantCallbackGroup
from ros_graph import until

from vggt3_ros.geometry import se3
from vggt3_ros.ros.main import THREADS

MOUNTED = {
    "input__source": "odometry",
    "input__base_to_camera": " ".join(map(str, np.concatenate(se3.to_quaternion(T_BASE_CAM)))),
}


def names(graph):
    return {info.node_name for info in graph.client.get_subscriptions_info_by_topic("/image")}


def test_images_are_taken_while_every_thread_of_the_node_is_busy(graph):
    rig = CameraRig(graph)
    backend = graph.backend(wait=False, **MOUNTED)
    rig.meet(backend)
    busy, released = threading.Semaphore(0), threading.Event()

    def wait():
        busy.release()
        released.wait(60)

    timers = [
        backend.create_timer(0.01, wait, callback_group=ReentrantCallbackGroup())
        for _ in range(THREADS)
    ]
    try:
        for _ in range(THREADS):
            assert busy.acquire(timeout=20)
        rig.pose(-50)
        rig.pose(50)
        rig.image(0, 0)
        until(lambda: len(backend._core.store) == 1)
    finally:
        for timer in timers:
            timer.cancel()
        released.set()


def test_its_node_lives_as_long_as_the_back_end_is_active(graph):
    backend = graph.backend(wait=False, **MOUNTED)
    for _ in range(2):
        until(lambda: names(graph) == {"vggt3_ros_input"})
        backend.trigger_deactivate()
        until(lambda: not names(graph))
        assert not any("vggt3_ros_input" in thread.name for thread in threading.enumerate())
        backend.trigger_activate()
