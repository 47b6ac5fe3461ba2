"""Importing it gives this process a ROS domain that no other test process on this machine uses,
out of reach from other machines.
"""

import fcntl
import os
import tempfile


def free_domain():
    """A ROS domain that no other test process on this machine uses, and the file that says so as
    long as it is open.
    """
    for domain in sorted(range(5, 95), key=lambda domain: (domain - os.getpid()) % 90):
        lock = open(  # noqa: SIM115 (returned open)
            os.path.join(tempfile.gettempdir(), f"vggt3_ros-{os.getuid()}-domain-{domain}.lock"),
            "w",
        )
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return domain, lock
        except BlockingIOError:
            lock.close()
    raise RuntimeError("90 test processes run already, and each needs a ROS domain of its own")


DOMAIN, _LOCK = free_domain()
os.environ["ROS_DOMAIN_ID"] = str(DOMAIN)
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
