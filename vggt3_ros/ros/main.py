"""The executable `backend`."""

import argparse
import os
import signal
import sys
import traceback

import rclpy
from rclpy.exceptions import InvalidHandle, ParameterException
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.utilities import remove_ros_args

from vggt3_ros.ros.node import BackendNode
from vggt3_ros.system.environment import shorten_switch_interval

# Maps show private rooms: files of node and worker are readable by their owner only, unless chmod
# grants more.
PRIVATE = 0o077
# For keyframes, TF, status, six services, parameters, lifecycle, and up to four waiting refine goals.
THREADS = 16


def main(argv=None):
    """Run the node. Returns exit status 1 if it cannot start."""
    if argv is None:
        argv = sys.argv
        # scripts/backend.in installs its own handler while this is imported.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    parser = argparse.ArgumentParser(
        description="The vggt3_ros back end as a ROS 2 node. ROS arguments follow --ros-args."
    )
    parser.add_argument(
        "--backend",
        default="vggt3_ros.backend:Backend",
        help="module:class that refines and localizes",
    )
    node = executor = None
    try:
        arguments = parser.parse_args(remove_ros_args(argv)[1:])
        os.umask(os.umask(0) | PRIVATE)
        shorten_switch_interval()
        rclpy.init(args=argv)
        node = BackendNode(arguments.backend)
        executor = MultiThreadedExecutor(THREADS)
        executor.add_node(node)
        if node.parameters.node.autostart and not start(node):
            return 1
        spin(executor, node.get_logger())
    except (KeyboardInterrupt, ExternalShutdownException):
        pass  # asked to stop: shut down in order
    except (ValueError, RuntimeError, ParameterException) as error:
        if executor is not None:
            raise
        print(f"backend: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    finally:
        # ros2 launch and users repeat Ctrl-C, which must not interrupt the shutdown.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if node is not None:
            node.stop()
        if executor is not None:
            executor.shutdown(timeout_sec=5.0)
        if node is not None:
            node.close()
        rclpy.try_shutdown()  # restores the signal handlers
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return 0


def spin(executor, logger):
    """Spin until the executor or ROS is shut down. Exceptions in callbacks are logged, and
    spinning continues.
    """
    while True:
        try:
            return executor.spin()
        except InvalidHandle:
            continue  # deactivation destroyed a service or timer while its callback ran
        except ExternalShutdownException:
            raise
        except Exception:
            if not executor.context.ok():
                return None
            logger.error(f"a callback failed:\n{traceback.format_exc()}")


def start(node):
    """Configure and activate the node, which logs why if it cannot. Returns whether it succeeded."""
    success = TransitionCallbackReturn.SUCCESS
    return node.trigger_configure() == success and node.trigger_activate() == success


if __name__ == "__main__":
    sys.exit(main())
