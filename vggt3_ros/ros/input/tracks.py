"""Further inputs of the synchronizer: calibrations, and transforms between frames. Needs no ROS."""

from vggt3_ros.frontend.synchronizer import WAIT, Miss
from vggt3_ros.geometry.frame_tree import NotYet, Unknown


class Timeless:
    """A value that is valid at any stamp once it has arrived, such as a calibration, which drivers
    send once or late.
    """

    def __init__(self, value):
        self._value = value

    def at(self, stamp_ns):
        value = self._value()
        return WAIT if value is None else value


class Optional(Timeless):
    """A value that may never arrive. It is waited for while there is a publisher; None: it is
    missing.
    """

    def __init__(self, value, can_come):
        super().__init__(value)
        self._can_come = can_come

    def at(self, stamp_ns):
        value = super().at(stamp_ns)
        return None if value is WAIT and not self._can_come() else value


class Between:
    """The transform between two frames at a stamp, for example of a camera on a moving head."""

    def __init__(self, at):
        self._at, self.late = at, ""  # why the last answer must wait; empty if it need not

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
