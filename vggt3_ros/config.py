"""Every value a user may set, with its unit and range, in one frozen config per component.

The ROS parameters (component.name) and config/backend.yaml are made from these fields.
"""

import dataclasses
import math
from dataclasses import dataclass, field

POSE_CONVENTIONS = ("camera_from_world", "world_from_camera")  # what a network's poses are


def value(default, doc, unit="", low=None, high=None, choices=(), live=True):
    """A config field. `live`: may change while the back end runs (else it needs a restart)."""
    metadata = {
        "doc": doc,
        "unit": unit,
        "low": low,
        "high": high,
        "choices": choices,
        "live": live,
    }
    return field(default=default, metadata=metadata)


class Checked:
    """Raises ValueError when a value is outside its range; its text begins with the name of the
    field.
    """

    def __post_init__(self):
        for f in dataclasses.fields(self):
            if "doc" in f.metadata:
                object.__setattr__(self, f.name, _checked(f, getattr(self, f.name)))


class Nested(Checked):
    """A config whose fields are values, or components: configs of their own with a default
    factory.
    """

    @classmethod
    def from_flat(cls, values):
        """From {"loops.pairs_per_keyframe": 5, ...}; ValueError for a name that does not exist or
        a value out of range.
        """
        nested, own = {}, {}
        for name, given in values.items():
            component, _, leaf = name.rpartition(".")
            (nested.setdefault(component, {}) if component else own)[leaf] = given
        known = {
            f.name: f.default_factory for f in dataclasses.fields(cls) if "doc" not in f.metadata
        }
        for component, given in nested.items():
            if component not in known:
                raise ValueError(
                    f"unknown config component '{component}'; there are: {', '.join(known)}"
                )
            own[component] = _build(known[component], component + ".", given)
        return _build(cls, "", own)

    def flat(self):
        """{"loops.pairs_per_keyframe": (value, metadata), ...} of every value."""
        out = {}
        for f in dataclasses.fields(self):
            if "doc" in f.metadata:
                out[f.name] = (getattr(self, f.name), f.metadata)
            else:
                part = getattr(self, f.name)
                out.update(
                    {
                        f"{f.name}.{g.name}": (getattr(part, g.name), g.metadata)
                        for g in dataclasses.fields(part)
                    }
                )
        return out

    def changed(self) -> dict[str, object]:
        """{"loops.pairs_per_keyframe": value, ...} of the values that are not the defaults."""
        defaults = type(self)().flat()
        return {
            name: value for name, (value, _) in self.flat().items() if value != defaults[name][0]
        }


def _checked(f, given):
    wanted = type(f.default)
    if wanted is float and isinstance(given, int) and not isinstance(given, bool):
        given = float(given)
    if type(given) is not wanted:
        raise ValueError(f"{f.name} must be {wanted.__name__}, got {given!r}")
    low, high, choices = f.metadata["low"], f.metadata["high"], f.metadata["choices"]
    if choices and given not in choices:
        raise ValueError(f"{f.name} must be one of {', '.join(choices)}, got {given!r}")
    if wanted is float and not math.isfinite(given):
        raise ValueError(f"{f.name} must be finite, got {given}")
    if (low is not None and given < low) or (high is not None and given > high):
        raise ValueError(
            f"{f.name} must be {low} to {high} {f.metadata['unit']}".rstrip() + f", got {given}"
        )
    return given


@dataclass(frozen=True)
class FeatureConfig(Checked):
    """What is kept of an image: XFeat keypoints with descriptors, and dense features."""

    image_side: int = value(
        640,
        "Longer side of the image the encoder sees; larger images are reduced",
        "px",
        64,
        4096,
        live=False,
    )
    keypoints: int = value(1024, "Keypoints kept per keyframe", low=64, high=8192)
    detection_threshold: float = value(0.05, "Least keypoint score", low=0.0, high=1.0)


@dataclass(frozen=True)
class LoopConfig(Checked):
    """Pairs of keyframes that are tried as loops, and when one is believed."""

    pairs_per_keyframe: int = value(4, "Pairs tried for each new keyframe", low=1, high=50)
    proximity_radius: float = value(
        1.2, "Keyframes nearer than this by odometry are tried", "m", 0.0, 100.0
    )
    proximity_angle: float = value(
        1.05,
        "Keyframes in reach are tried when their viewing directions differ by less",
        "rad",
        0.0,
        math.pi,
    )
    minimum_inliers: int = value(
        30, "Fewest matches that agree on the motion of a loop", low=6, high=1000
    )
    reprojection_threshold: float = value(
        3.0, "A match of a loop agrees when reprojected closer than this", "px", 0.1, 50.0
    )
    thorough_per_keyframe: int = value(
        1, "Pairs a keyframe may try with the slow matcher when the fast one fails", low=0, high=20
    )
    place_candidates: int = value(
        3, "Look-alike keyframes tried while no scene memory exists", low=0, high=20
    )
    memory_candidates: int = value(
        3, "Keyframes tried around where the scene memory places a new keyframe", low=0, high=20
    )
    drift_per_metre: float = value(
        0.15,
        "A loop may contradict the odometry by so much for every metre between",
        "m/m",
        0.0,
        10.0,
    )
    drift_allowance: float = value(
        0.5, "A loop may contradict the odometry by so much besides", "m", 0.0, 1000.0
    )


@dataclass(frozen=True)
class PoseGraphConfig(Checked):
    """How odometry and loops weigh against each other, and which loops the solved graph drops."""

    odometry_translation_noise: float = value(
        0.003, "Odometry noise (sigma) of a step where the front end gives none", "m", 1e-5, 10.0
    )
    odometry_noise_per_metre: float = value(
        0.1, "Odometry noise besides, for every metre of the step", "m/m", 0.0, 10.0
    )
    odometry_rotation_noise: float = value(
        0.003, "Odometry noise of a step's rotation where none is given", "rad", 1e-5, 3.0
    )
    odometry_noise_per_radian: float = value(
        0.1,
        "Odometry noise of rotation besides, for every radian of the step",
        "rad/rad",
        0.0,
        10.0,
    )
    odometry_kernel: float = value(
        3.0, "Huber kernel of odometry steps, in standard deviations", "", 0.1, 100.0
    )
    loop_kernel: float = value(
        3.0, "Cauchy kernel of loops, in standard deviations", "", 0.1, 100.0
    )
    loop_residual_translation: float = value(
        0.25, "Loops the solved graph disagrees with by a longer way are dropped", "m", 0.01, 10.0
    )
    loop_residual_rotation: float = value(
        0.15,
        "Loops the solved graph disagrees with by a larger turn are dropped",
        "rad",
        0.01,
        3.0,
    )
    rejection_rounds: int = value(
        6, "Most times loops are dropped and the graph is solved again", low=1, high=50
    )


@dataclass(frozen=True)
class DepthConfig(Checked):
    """Depth of keyframes that come without, from the images alone."""

    estimate: str = value(
        "auto",
        "Estimate the depth of keyframes that come without, from their neighbours, which takes about a second for "
        "each; scale is then the odometry's; auto: where at least nine of ten keyframes come without",
        choices=("auto", "always", "never"),
    )
    planes: int = value(64, "Depths tried at first, even in inverse depth", low=8, high=512)
    neighbours: int = value(4, "Keyframes that a keyframe is compared with", low=1, high=16)


@dataclass(frozen=True)
class MapConfig(Checked):
    """Fusion of depth into the surface that is published as `map`."""

    voxel_size: float = value(0.02, "Edge of a TSDF voxel", "m", 0.002, 1.0)
    max_depth: float = value(5.0, "Depth beyond this is not fused", "m", 0.1, 100.0)
    moved: float = value(
        0.005,
        "A keyframe whose surfaces moved by more since it was fused is fused anew",
        "m",
        0.0,
        1.0,
    )
    minimum_weight: float = value(
        2.0, "Fewest observations of a published surface", low=0.0, high=1000.0
    )
    max_points: int = value(500_000, "Most points published", low=1000, high=20_000_000)


@dataclass(frozen=True)
class MemoryConfig(Checked):
    """The scene memory: a network of slots, each a learned key and a learned point, that move with
    their keyframes.
    """

    max_depth: float = value(6.0, "Points farther than this are not remembered", "m", 0.1, 100.0)
    density: int = value(
        192,
        "Most slots in a cell of 0.25 m: with it a memory grows with the surface seen, not with the keyframes",
        low=1,
        high=100_000,
    )
    max_slots: int = value(
        600_000,
        "Most slots in all, 90 bytes each on disk; bounds memory",
        low=1_000,
        high=20_000_000,
    )
    steps: int = value(
        0, "Optimizer steps of a refinement, after the closed form", low=0, high=100_000
    )
    batch: int = value(512, "(feature, point) pairs in an optimizer step", low=64, high=65536)
    learning_rate: float = value(1e-3, "Peak of Adam's learning rate", "", 1e-6, 0.1)


@dataclass(frozen=True)
class LocalizerConfig(Checked):
    """When an image counts as localized in the map."""

    verify_keyframes: int = value(
        3, "Nearest keyframes a coarse pose is matched against", low=1, high=20
    )
    minimum_inliers: int = value(40, "Fewer agreeing matches: not localized", low=6, high=10000)
    single_inliers: int = value(
        25, "Matches with one keyframe that make a pose worth a closer look", low=6, high=10000
    )
    keypoints: int = value(
        512,
        "Keypoints of the image that the scene memory is asked about at first, the best ones",
        low=64,
        high=8192,
    )
    slots_asked: int = value(
        4096,
        "Slots of the scene memory that are asked at a time, the likeliest first",
        low=256,
        high=10_000_000,
    )
    settled: int = value(
        150,
        "Keypoints that agree on the scene memory's pose, with which no other slots are asked",
        low=6,
        high=10000,
    )
    coarse_threshold: float = value(
        12.0, "A slot agrees with a first pose when reprojected closer than this", "px", 1.0, 200.0
    )
    search_radius: float = value(
        20.0,
        "A keypoint is looked for this far from where the coarse pose expects it",
        "px",
        1.0,
        500.0,
    )
    verify_inlier_ratio: float = value(
        0.44, "Least share of matches with keyframes that agree with a verified pose", "", 0.0, 1.0
    )
    similarity: float = value(
        0.75,
        "Least median similarity of the image's cells with what the map shows there",
        "",
        0.0,
        1.0,
    )
    memory_similarity: float = value(
        0.72,
        "Least median similarity of the image's keypoints with the slots that the scene memory expects there, asked alone",
        "",
        0.0,
        1.0,
    )
    memory_inliers: int = value(
        120, "Fewer agreeing keypoints: not localized by the scene memory alone", low=6, high=10000
    )
    memory_inlier_ratio: float = value(
        0.4,
        "Least share of the matches with slots that agree with the memory's pose",
        "",
        0.0,
        1.0,
    )
    shown: float = value(
        0.15, "Least share of the image that the map must show something for", "", 0.0, 1.0
    )
    scatter: float = value(
        0.8, "Largest median reprojection error, as a share of verify_threshold", "", 0.0, 1.0
    )
    verify_threshold: float = value(
        4.0, "A match with a keyframe agrees when reprojected closer than this", "px", 0.1, 50.0
    )
    point_sigma: float = value(0.003, "Standard deviation of a mapped point", "m", 1e-4, 1.0)

    def searches(self):
        """(share of the matches that must agree, pixels around where a keypoint is expected):
        first as far as the coarse pose may be off, then as far as a keypoint may, until that
        settles. A pose that is wrong has few that agree: it is given up early.
        """
        return [(0.16, self.search_radius), (0.24, 3 * self.verify_threshold)] + 8 * [
            (0.32, 3 * self.verify_threshold)
        ]


@dataclass(frozen=True)
class NetworkConfig(Checked):
    """What the back end does with a checkpoint of the published network, or with another network
    by an adapter.
    """

    checkpoint: str = value(
        "",
        "Weights of the network: a .safetensors or .pt file, a folder, or a hub id (owner/name[@revision]); "
        "empty: none, or the adapter's own default",
        live=False,
    )
    adapter: str = value(
        "",
        "Another network, in a process of its own: module:Class as vggt3_ros.adapters.map_anything:MapAnything, "
        "file.py:Class, or a command that speaks the protocol of vggt3_ros/adapters; empty: none",
        live=False,
    )
    adapter_python: str = value(
        "", "Python of the environment that has the adapter's network; empty: this one", live=False
    )
    adapter_inputs: str = value(
        "depth",
        "What the adapter's network is given beside images, as far as it takes it: intrinsics; depth: with "
        "the measured depth; poses: with the odometry too, it then says nothing of motions",
        choices=("images", "intrinsics", "depth", "poses"),
        live=False,
    )
    adapter_timeout: float = value(
        600.0,
        "An adapter without a sign of life for so long is ended",
        "s",
        1.0,
        86400.0,
        live=False,
    )
    dtype: str = value(
        "auto",
        "Numbers of the trunk; auto: bfloat16 where the device multiplies it faster than float32",
        choices=("auto", "float32", "bfloat16", "float16"),
        live=False,
    )
    pose_convention: str = value(
        "camera_from_world",
        "What the checkpoint's poses are; the odometry is asked whether that can be. LingBot-Map's "
        "stage 1 has world_from_camera, VGGT and VGG-T3 have camera_from_world",
        choices=POSE_CONVENTIONS,
        live=False,
    )
    image_side: int = value(
        518, "Longer side of the images the network sees, in whole patches of 14", "px", 28, 2072
    )
    max_keyframes: int = value(
        1000,
        "Keyframes the network maps at once, evenly spread; the others are queried",
        low=3,
        high=100_000,
    )
    growth: float = value(
        0.1,
        "New keyframes are queried in the mapped scene until they are this share of it; then all are mapped again",
        "",
        0.0,
        10.0,
    )
    memory_limit: int = value(
        0, "Device memory a pass of the network may take; 0: what is free", "MB", 0, 10_000_000
    )
    max_disagreement: float = value(
        0.25,
        "Poses of the network that differ from the odometry by a larger share of the path's extent are "
        "refused",
        "",
        0.01,
        1.0,
    )
    candidates: int = value(
        3,
        "Keyframes the network sees the same surface in, tried as loops for each new keyframe",
        low=0,
        high=20,
    )
    estimate_depth: bool = value(True, "The network's depth serves keyframes that come without")
    depth_confidence: float = value(
        1.5,
        "Pixels the network is less sure of have no depth; 1 is not sure at all",
        "",
        1.0,
        1000.0,
    )
    second_opinion: str = value(
        "failed",
        "Images to localize that the network is asked about as well; failed: those not localized, its "
        "answer is then verified; all: answers that it contradicts are refused",
        choices=("none", "failed", "all"),
    )


@dataclass(frozen=True)
class ResourceConfig(Checked):
    """What may be taken of disk and memory."""

    snapshots_kept: int = value(2, "Refined snapshots kept on disk", low=1, high=1000)
    frame_cache_mb: int = value(
        800,
        "Decoded features kept in memory; the rest is read from the store again",
        "MB",
        16,
        1_000_000,
    )
    memory_limit_mb: int = value(
        0,
        "Memory the worker and the process that fuses may take: beyond it a refinement goes on with less; "
        "0: three quarters of the machine's, or of the control group's",
        "MB",
        0,
        10_000_000,
    )


@dataclass(frozen=True)
class BackendConfig(Nested):
    """All components; `device`: auto takes the GPU where there is one."""

    device: str = value("auto", "Where torch runs: auto, cpu, cuda, cuda:1, ...", live=False)
    fixed_poses: bool = value(
        False, "Trust the incoming poses: map and localize, correct nothing", live=False
    )
    scene_scale: float = value(
        0.0,
        "Lengths that are left at their defaults, those of an indoor robot, are taken so many times: voxels, "
        "greatest depths, reach of proximity, allowance for drift; 0: measured by the depth of the keyframes",
        "",
        0.0,
        20.0,
    )
    features: FeatureConfig = field(default_factory=FeatureConfig)
    loops: LoopConfig = field(default_factory=LoopConfig)
    pose_graph: PoseGraphConfig = field(default_factory=PoseGraphConfig)
    depth: DepthConfig = field(default_factory=DepthConfig)
    map: MapConfig = field(default_factory=MapConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    localizer: LocalizerConfig = field(default_factory=LocalizerConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    resources: ResourceConfig = field(default_factory=ResourceConfig)


def _build(cls, prefix, given):
    known = {f.name for f in dataclasses.fields(cls)}
    unknown = set(given) - known
    if unknown:
        raise ValueError(
            f"unknown config value '{prefix}{sorted(unknown)[0]}'; there are: "
            + ", ".join(prefix + name for name in sorted(known))
        )
    try:
        return cls(**given)
    except ValueError as error:
        raise ValueError(f"{prefix}{error}") from error
