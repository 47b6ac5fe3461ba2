"""Which topics of a bag are which: named, guessed, or asked for."""

import pytest

from vggt3_ros.datasets.rosbag_topics import Topics, choose_topics

IMAGE, COMPRESSED, INFO = (
    "sensor_msgs/msg/Image",
    "sensor_msgs/msg/CompressedImage",
    "sensor_msgs/msg/CameraInfo",
)


ODOMETRY, KEYFRAME = "nav_msgs/msg/Odometry", "vggt3_ros/msg/Keyframe"


@pytest.mark.parametrize(
    "types, wanted, chosen",
    [
        (
            {"/rgb/image_raw": IMAGE, "/rgb/camera_info": INFO, "/odom": ODOMETRY},
            {},
            ("/rgb/image_raw", "/rgb/camera_info", "/odom", None),
        ),
        (
            {
                "/cam/color/image_raw": IMAGE,
                "/cam/color/image_raw/compressed": COMPRESSED,
                "/cam/color/camera_info": INFO,
                "/odom": ODOMETRY,
                "/cam/depth/image_rect_raw": IMAGE,
                "/cam/aligned_depth_to_color/image_raw": IMAGE,
                "/cam/infra1/image_rect_raw": IMAGE,
                "/cam/depth/camera_info": INFO,
            },
            {},
            (
                "/cam/color/image_raw",
                "/cam/color/camera_info",
                "/odom",
                "/cam/aligned_depth_to_color/image_raw",
            ),
        ),
        (
            {
                "/left/image/compressed": COMPRESSED,
                "/right/image/compressed": COMPRESSED,
                "/left/camera_info": INFO,
                "/right/camera_info": INFO,
                "/odom": ODOMETRY,
            },
            {},
            ("/left/image/compressed", "/left/camera_info", "/odom", None),
        ),
        (
            {
                "/a": IMAGE,
                "/b": IMAGE,
                "/info": INFO,
                "/o1": ODOMETRY,
                "/o2": ODOMETRY,
                "/depth": IMAGE,
            },
            {"image": "/b", "odometry": "/o2", "depth": ""},
            ("/b", "/info", "/o2", None),
        ),
    ],
)
def test_topics_are_guessed(types, wanted, chosen):
    found = choose_topics(types, Topics(**wanted))
    assert (found.image, found.camera_info, found.odometry, found.depth) == chosen


@pytest.mark.parametrize(
    "types, wanted, message",
    [
        (
            {"/a": IMAGE, "/b": IMAGE, "/info": INFO, "/odom": ODOMETRY},
            {},
            "several image topics: name one with --image-topic",
        ),
        ({"/scan": "sensor_msgs/msg/LaserScan"}, {}, "no image topic: .*/scan"),
        ({"/a": IMAGE, "/odom": ODOMETRY}, {}, "no sensor_msgs/CameraInfo"),
        ({"/a": IMAGE, "/info": INFO}, {}, "no nav_msgs/Odometry"),
        ({"/a": IMAGE}, {"image": "/x"}, "topic /x is not in the bag"),
        (
            {"/a": IMAGE, "/info": INFO, "/o1": ODOMETRY, "/o2": ODOMETRY},
            {},
            "several odometry topics .*--odometry-topic",
        ),
        (
            {"/a": IMAGE, "/info": INFO},
            {"odometry": "/info"},
            "odometry topic /info has type sensor_msgs/msg/CameraInfo",
        ),
        ({"/k": KEYFRAME, "/j": KEYFRAME}, {}, "several keyframes topics"),
    ],
)
def test_what_cannot_be_guessed_is_said(types, wanted, message):
    with pytest.raises(ValueError, match=message):
        choose_topics(types, Topics(**wanted))


def test_ground_truth_is_never_guessed():
    poses = "geometry_msgs/msg/PoseStamped"
    types = {"/rgb/image": IMAGE, "/rgb/camera_info": INFO, "/odom": ODOMETRY, "/truth": poses}
    assert choose_topics(types).groundtruth is None
    assert choose_topics(types, Topics(groundtruth="/truth")).groundtruth == "/truth"
    with pytest.raises(ValueError, match="groundtruth topic /rgb/image has type"):
        choose_topics(types, Topics(groundtruth="/rgb/image"))


def test_keyframes_go_before_images_unless_an_image_is_named():
    types = {"/k": KEYFRAME, "/rgb/image": IMAGE, "/rgb/camera_info": INFO, "/odom": ODOMETRY}
    assert choose_topics(types) == Topics(keyframes="/k")
    named = choose_topics(types, Topics(image="/rgb/image"))
    assert named.keyframes is None and named.odometry == "/odom"


STEREO = {
    "/left/image": IMAGE,
    "/left/camera_info": INFO,
    "/right/image": IMAGE,
    "/right/camera_info": INFO,
    "/odom": ODOMETRY,
}


@pytest.mark.parametrize(
    "more, wanted, right",
    [
        ({}, {}, ("/right/image", "/right/camera_info")),
        ({}, {"right": ""}, (None, None)),
        ({"/left/depth": IMAGE}, {}, (None, None)),  # measured depth goes before stereo
        ({"/left/depth": IMAGE}, {"depth": ""}, ("/right/image", "/right/camera_info")),
    ],
)
def test_a_second_camera_gives_depth_where_nothing_measured_it(more, wanted, right):
    found = choose_topics(STEREO | more, Topics(**wanted))
    assert (found.right, found.right_camera_info) == right


def test_a_second_camera_needs_a_calibration():
    types = {name: kind for name, kind in STEREO.items() if name != "/right/camera_info"}
    assert choose_topics(types).right is None  # a guess
    with pytest.raises(ValueError, match="no sensor_msgs/CameraInfo beside /right/image"):
        choose_topics(types, Topics(right="/right/image"))


def test_odometry_may_come_from_elsewhere():
    types = {"/rgb/image": IMAGE, "/rgb/camera_info": INFO}
    assert choose_topics(types, odometry_needed=False).odometry is None
    with pytest.raises(ValueError, match="--odometry-topic, or a trajectory file with --odometry"):
        choose_topics(types)
