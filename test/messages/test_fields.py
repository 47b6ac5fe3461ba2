"""The declared fields exist in the messages: rosbags' definitions and our own."""

from pathlib import Path

import pytest
from folders import ROOT
from rosbags.typesys import Stores, get_typestore

from vggt3_ros.messages import fields

STANDARD = get_typestore(Stores.ROS2_JAZZY)
PACKAGES = {
    fields.Time: "builtin_interfaces/msg/Time",
    fields.Header: "std_msgs/msg/Header",
    fields.Image: "sensor_msgs/msg/Image",
    fields.CompressedImage: "sensor_msgs/msg/CompressedImage",
    fields.Region: "sensor_msgs/msg/RegionOfInterest",
    fields.CameraInfo: "sensor_msgs/msg/CameraInfo",
    fields.Point: "geometry_msgs/msg/Point",
    fields.Quaternion: "geometry_msgs/msg/Quaternion",
    fields.Pose: "geometry_msgs/msg/Pose",
}


@pytest.mark.parametrize("kind", PACKAGES, ids=lambda kind: kind.__name__)
def test_a_standard_message_has_the_fields(kind):
    there = {name.lower() for name in STANDARD.types[PACKAGES[kind]].__dataclass_fields__}
    assert kind.__annotations__.keys() <= there


def test_our_keyframe_has_the_fields():
    there = set()
    for line in Path(ROOT / "msg" / "Keyframe.msg").read_text().splitlines():
        declaration = line.partition("#")[0].split()
        if len(declaration) == 2:
            there.add(declaration[1])
    assert fields.KeyframeMessage.__annotations__.keys() <= there
    assert len(there) > 10
