"""Topics of a bag by role: camera, calibration, depth, odometry. Roles not named by the user are
guessed from types and names.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

IMAGE, COMPRESSED, CAMERA_INFO = (
    "sensor_msgs/msg/Image",
    "sensor_msgs/msg/CompressedImage",
    "sensor_msgs/msg/CameraInfo",
)
KEYFRAME, ODOMETRY = "vggt3_ros/msg/Keyframe", "nav_msgs/msg/Odometry"
POSES = (
    ODOMETRY,
    "geometry_msgs/msg/PoseStamped",
    "geometry_msgs/msg/PoseWithCovarianceStamped",
    "geometry_msgs/msg/TransformStamped",
)
TF_STATIC, TF, TF_MESSAGE = "/tf_static", "/tf", "tf2_msgs/msg/TFMessage"
Types = Mapping[str, str]  # topic: message type
COLOR_WORDS, DEPTH_WORDS, REGISTERED_WORDS = (
    ("color", "rgb", "left", "cam0"),
    ("depth",),
    ("aligned", "registered", "_to_color"),
)


@dataclass(frozen=True)
class Topics:
    """Topic names; None: guess. `keyframes` replaces image, camera_info, odometry and depth.

    groundtruth (Odometry, PoseStamped, PoseWithCovarianceStamped or TransformStamped: true pose of
    the odometry's child frame) is never guessed. depth: "" for none. depth_camera_info:
    calibration of the depth, by default the one beside it. right, right_camera_info: a second
    camera to the right of the first, used if there is no depth and the image's topic contains
    "left"; right: "" for none.
    """

    keyframes: str | None = None
    image: str | None = None
    camera_info: str | None = None
    odometry: str | None = None
    depth: str | None = None
    right: str | None = None
    right_camera_info: str | None = None
    groundtruth: str | None = None
    depth_camera_info: str | None = None


GUESSED = Topics()


def choose_topics(types: Types, wanted: Topics = GUESSED, odometry_needed: bool = True) -> Topics:
    """Resolve the wanted topics; in the result None means absent. Raise ValueError naming what is
    missing or ambiguous.
    """
    for field in fields(wanted):
        name = getattr(wanted, field.name)
        if name and name not in types:
            raise ValueError(f"topic {name} is not in the bag; its topics: {_listed(types)}")
    keyframes = (
        _only(types, wanted.keyframes, (KEYFRAME,), "keyframes") if wanted.image is None else None
    )
    if keyframes:
        return Topics(
            keyframes=keyframes,
            groundtruth=_checked(types, wanted.groundtruth, POSES, "groundtruth"),
        )
    image = _image(types, wanted.image)
    camera_info = (
        wanted.camera_info
        or _sibling(types, image)
        or _only(types, None, (CAMERA_INFO,), "camera_info")
    )
    odometry = _only(types, wanted.odometry, POSES if wanted.odometry else (ODOMETRY,), "odometry")
    if camera_info is None:
        raise ValueError(
            f"no sensor_msgs/CameraInfo topic: the camera's calibration is required; topics of the bag: {_listed(types)}"
        )
    if odometry is None and odometry_needed:
        raise ValueError(
            f"no nav_msgs/Odometry topic: name the front end's topic with --odometry-topic, or a trajectory file with --odometry; "
            f"topics of the bag: {_listed(types)}"
        )
    depth = _depth(types, wanted.depth, image)
    right, right_info = (None, None) if depth else _right(types, wanted, image)
    return Topics(
        None,
        _checked(types, image, (IMAGE, COMPRESSED), "image"),
        _checked(types, camera_info, (CAMERA_INFO,), "camera_info"),
        odometry,
        depth,
        right,
        right_info,
        _checked(types, wanted.groundtruth, POSES, "groundtruth"),
        _checked(
            types,
            wanted.depth_camera_info or (depth and _sibling(types, depth)),
            (CAMERA_INFO,),
            "depth_camera_info",
        ),
    )


def _image(types: Types, wanted: str | None) -> str:
    if wanted:
        return wanted
    candidates = [
        name
        for name, kind in types.items()
        if kind in (IMAGE, COMPRESSED) and not _says(name, DEPTH_WORDS)
    ]
    for narrower in (
        [name for name in candidates if types[name] == IMAGE],
        [name for name in candidates if _says(name, COLOR_WORDS)],
    ):
        if len(candidates) > 1 and narrower:
            candidates = [name for name in candidates if name in narrower]
    if len(candidates) != 1:
        raise ValueError(
            f"{'several image topics' if candidates else 'no image topic'}: name one with --image-topic; topics of the bag: "
            f"{_listed(types)}"
        )
    return candidates[0]


def _depth(types: Types, wanted: str | None, image: str) -> str | None:
    if wanted is not None:
        return _checked(types, wanted, (IMAGE, COMPRESSED), "depth") if wanted else None
    candidates = [
        name
        for name, kind in types.items()
        if kind in (IMAGE, COMPRESSED) and _says(name, DEPTH_WORDS) and name != image
    ]
    for narrower in (
        [name for name in candidates if _says(name, REGISTERED_WORDS)],
        [name for name in candidates if types[name] == IMAGE],
    ):
        if len(candidates) > 1 and narrower:
            candidates = [name for name in candidates if name in narrower]
    if len(candidates) > 1:
        raise ValueError(
            f"several depth topics ({', '.join(candidates)}): name the one registered to {image} with --depth-topic"
        )
    return candidates[0] if candidates else None


def _right(types: Types, wanted: Topics, image: str) -> tuple[str | None, str | None]:
    """Return the topics of the second camera's image and calibration, or (None, None)."""
    name = image.replace("left", "right") if wanted.right is None else wanted.right
    if not name or name == image or name not in types:
        return None, None
    info = wanted.right_camera_info or _sibling(types, name)
    if info is None and wanted.right is None:
        return None, None  # do not guess a camera without calibration
    if info is None:
        raise ValueError(
            f"no sensor_msgs/CameraInfo beside {name}: name it with --right-camera-info-topic; topics of the bag: {_listed(types)}"
        )
    return _checked(types, name, (IMAGE, COMPRESSED), "right"), _checked(
        types, info, (CAMERA_INFO,), "right_camera_info"
    )


def _sibling(types: Types, image: str) -> str | None:
    """Return the camera_info topic in the namespace of an image topic, or of the image that it
    compresses.
    """
    parents = [image.rsplit("/", n)[0] for n in (1, 2)[: 1 + (types.get(image) == COMPRESSED)]]
    return next(
        (
            f"{parent}/camera_info"
            for parent in parents
            if types.get(f"{parent}/camera_info") == CAMERA_INFO
        ),
        None,
    )


def _only(types: Types, wanted: str | None, kinds: tuple[str, ...], name: str) -> str | None:
    """Return the wanted topic, or the only one of these types, or None. Raise ValueError if there
    are several.
    """
    if wanted:
        return _checked(types, wanted, kinds, name)
    found = [topic for topic, kind in types.items() if kind in kinds]
    if len(found) > 1:
        raise ValueError(
            f"several {name} topics ({', '.join(found)}): name one with --{name.replace('_', '-')}-topic"
        )
    return found[0] if found else None


def _checked(types: Types, topic: str | None, kinds: tuple[str, ...], name: str) -> str | None:
    if topic and types[topic] not in kinds:
        raise ValueError(
            f"{name} topic {topic} has type {types[topic]}, expected {' or '.join(kinds)}"
        )
    return topic or None


def _says(topic: str, words: tuple[str, ...]) -> bool:
    return any(word in topic.lower() for word in words)


def _listed(types: Types) -> str:
    return ", ".join(f"{name} ({kind})" for name, kind in sorted(types.items())) or "none"
