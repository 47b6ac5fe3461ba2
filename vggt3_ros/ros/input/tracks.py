"""What the synchronizer asks beside topics of images and poses: calibrations, and where frames
lie. Needs no ROS.
"""

from vggt3_ros.frontend.synchronizer import WAIT, Miss
from vggt3_ros.geometry.frame_tree import NotYet, Unknown


class Timeless:
    """What holds at any stamp once it is there: a calibration (drivers send it once, or late)."""

    def __init__(self, value):
        self._value = value

    def at(self, stamp_ns):
        value = self._value()
        return WAIT if value is None else value


class Optional(Timeless):
    """What may be missing for good: waited for while somebody is there to send it. None: it is
    missing.
    """

    def __init__(self, value, can_come):
        super().__init__(value)
        self._can_come = can_come

    def at(self, stamp_ns):
        value = super().at(stamp_ns)
        return None if value is WAIT and not self._can_come() else value


class Between:
    """Where one frame lies in another at a stamp: a camera on a head that turns is elsewhere with
    every image.
    """

    def __init__(self, at):
        self._at, self.late = at, ""  # why the last answer has to wait; empty: it has not

    def at(self, stamp_ns):
        self.late = ""
        try:
            transform = self._at(stamp_ns)
        except NotYet as error:
            self.late = str(error)
            return WAIT
        except Unknown as error:
            return Miss(str(error))
        return WAIT if transform is None else transform
