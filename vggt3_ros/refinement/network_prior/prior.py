"""The network's predictions in the odometry's frame and in metres, as the other stages take them:
poses, depth, edges, candidates.

The network sees all keyframes at once and does not drift, but it does not know the scale and has
errors of a few centimetres. Odometry is metric and smooth, but drifts. So the network as a whole
is aligned with the odometry (robust Sim(3)), and then contributes only motions between keyframes
far apart, weighted by how much the two disagree there.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.alignment import Alignment, align, segment_scales
from vggt3_ros.refinement.pose_graph import Edge

LAGS = (8, 24, 72, 216)  # keyframes between the ends of an edge
# lower bounds of standard deviations: the published accuracy of the network at room scale
FLOOR_M, FLOOR_RAD = 0.05, 0.02
# factor on standard deviations: edges share endpoints, and a smooth warp affects many of them
CAUTION = 2.0
# further factor between keyframes that verified loops connect: loops are accurate to 2 cm, and the
# odometry does the rest
BESIDE_LOOPS = 3.0


@dataclass(frozen=True, eq=False)
class Prior:
    """The network's view of N keyframes in the odometry frame.

    T_odom_cam (N, 4, 4). trusted (N,): mask. metres_per_unit: factor for the network's depth.
    segment_scales: see geometry.alignment. edges: relative motions for the pose graph, with
    information.
    """

    T_odom_cam: np.ndarray
    trusted: np.ndarray
    alignment: Alignment
    segment_scales: np.ndarray
    edges: tuple[Edge, ...]

    @property
    def metres_per_unit(self) -> float:
        return self.alignment.scale


def make_prior(
    T_odom_cam: np.ndarray,
    T_network_cam: np.ndarray,
    confidence: np.ndarray | None = None,
    known_scale: tuple[float, float] | None = None,
) -> Prior:
    """Align the network's poses (N, 4, 4), with confidence (N,), with the odometry's of the same
    keyframes.

    known_scale: (metres per unit, relative standard deviation) according to a depth sensor; see
    geometry.alignment.align. Raises geometry.alignment.DegenerateMotion when the motion does not
    determine the alignment; then the network is of no use.
    """
    alignment = align(T_odom_cam, T_network_cam, confidence, known_scale=known_scale)
    aligned = alignment.poses(T_network_cam)
    return Prior(
        aligned,
        alignment.trusted,
        alignment,
        segment_scales(alignment, T_odom_cam, T_network_cam),
        tuple(relative_edges(T_odom_cam, aligned, alignment.trusted)),
    )


def relative_edges(
    T_odom_cam: np.ndarray, T_aligned_cam: np.ndarray, trusted: np.ndarray
) -> list[Edge]:
    """Return the network's motions between trusted keyframes far apart.

    The disagreement of odometry and network over a number of keyframes bounds the network's own
    error there. So it is the edge's standard deviation, times CAUTION: pessimistic where the
    odometry is wrong, right where the network is.
    """
    edges: list[Edge] = []
    for lag in LAGS:
        pairs = list(_trusted_pairs(trusted, lag))
        if len(pairs) < 3:
            continue
        source, target = np.array(pairs).T
        by_network = se3.inverse(T_aligned_cam[source]) @ T_aligned_cam[target]
        by_odometry = se3.inverse(T_odom_cam[source]) @ T_odom_cam[target]
        difference = se3.inverse(by_odometry) @ by_network
        sigma_m = max(FLOOR_M, float(np.median(np.linalg.norm(difference[:, :3, 3], axis=1))))
        sigma_rad = max(FLOOR_RAD, float(np.median(se3.rotation_angle(difference))))
        information = np.diag([sigma_m**-2] * 3 + [sigma_rad**-2] * 3) / CAUTION**2
        edges += [
            Edge(int(a), int(b), motion, information)
            for a, b, motion in zip(source, target, by_network)
        ]
    return edges


def beside_loops(edges: Sequence[Edge], loops: Sequence[Edge]) -> list[Edge]:
    """Return the edges, with the information of those divided by BESIDE_LOOPS^2 that loops make
    redundant: two or more ends of loops that are at least half as long lie between their ends.
    """
    spans = np.array([abs(loop.source - loop.target) for loop in loops])
    ends = np.array([(loop.source, loop.target) for loop in loops])
    out = []
    for edge in edges:
        low, high = sorted((edge.source, edge.target))
        inside = (ends[spans >= (high - low) / 2] if len(loops) else ends).ravel()
        tied = ((inside >= low) & (inside <= high)).sum() >= 2
        out.append(replace(edge, information=edge.information / BESIDE_LOOPS**2) if tied else edge)
    return out


def _trusted_pairs(trusted: np.ndarray, lag: int) -> Iterator[tuple[int, int]]:
    """Yield pairs of trusted keyframes about `lag` apart, one every half lag."""
    index, reach = np.flatnonzero(trusted), lag // 4
    if not len(index):
        return
    for first in range(0, len(trusted) - lag, lag // 2):
        last = first + lag
        source, target = (int(index[np.argmin(np.abs(index - end))]) for end in (first, last))
        if abs(source - first) <= reach and abs(target - last) <= reach:
            yield source, target


def metric_depth(
    depth: np.ndarray,
    confidence: np.ndarray,
    metres_per_unit: float,
    least_confidence: float = 1.5,
) -> np.ndarray:
    """Convert network depth (H, W) from its own units to float32 metres along z, 0 where the
    confidence is too low.
    """
    return np.where(confidence >= least_confidence, depth * metres_per_unit, 0).astype(np.float32)


def scale_from_depth(
    sensor_depth: np.ndarray,
    network_depth: np.ndarray,
    confidence: np.ndarray,
    least_pixels: int = 100,
) -> float:
    """Return metres per network unit: the weighted median ratio over the pixels, (M,) or (H, W),
    that a depth sensor measured; NaN when there are too few.
    """
    known = (sensor_depth > 0) & (network_depth > 0) & np.isfinite(network_depth)
    if known.sum() < least_pixels:
        return float("nan")
    ratio, weight = (
        (sensor_depth[known] / network_depth[known]).astype(float),
        confidence[known].astype(float),
    )
    order = np.argsort(ratio)
    cumulative = np.cumsum(weight[order])
    return float(ratio[order][np.searchsorted(cumulative, cumulative[-1] / 2)])


def covisible(
    T_odom_cam: np.ndarray,
    matrices: np.ndarray,
    depth: np.ndarray,
    size: tuple[int, int],
    least_overlap: float = 0.3,
    least_gap: int = 3,
) -> list[tuple[int, int, float]]:
    """Return pairs (i, j, overlap), i > j + least_gap, of keyframes that see the same surface,
    largest overlap first: candidate loops.

    T_odom_cam (N, 4, 4). matrices (N, 3, 3): pinhole, pixels. depth (N, h, w): metres, sampled
    evenly over the image, 0 = unknown. size: (height, width) of the images in pixels. The overlap
    is the share of i's surface points that project into j's image at about the depth that j sees
    there (within a fifth of it).
    """
    count, rows, columns = depth.shape
    height, width = size
    y = (np.arange(rows) + 0.5) * height / rows - 0.5
    x = (np.arange(columns) + 0.5) * width / columns - 0.5
    pixels = np.stack([*np.meshgrid(x, y), np.ones((rows, columns))], axis=-1).reshape(-1, 3)
    flat = depth.reshape(count, -1)
    points = np.einsum("nij,pj->npi", np.linalg.inv(matrices), pixels) * flat[..., None]
    world = np.einsum("nij,npj->npi", T_odom_cam[:, :3, :3], points) + T_odom_cam[:, None, :3, 3]
    T_cam_odom = se3.inverse(T_odom_cam)
    pairs: list[tuple[int, int, float]] = []
    for i in range(least_gap + 1, count):
        earlier = slice(0, i - least_gap)
        seen = (
            np.einsum("nij,pj->npi", T_cam_odom[earlier, :3, :3], world[i])
            + T_cam_odom[earlier, None, :3, 3]
        )
        image = np.einsum("nij,npj->npi", matrices[earlier], seen)
        z = image[..., 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            u, v = image[..., 0] / z, image[..., 1] / z
        inside = (
            (z > 0.05)
            & (flat[i] > 0)
            & (u > -0.5)
            & (u < width - 0.5)
            & (v > -0.5)
            & (v < height - 0.5)
        )
        column = np.clip(np.nan_to_num((u + 0.5) * columns / width), 0, columns - 1).astype(int)
        row = np.clip(np.nan_to_num((v + 0.5) * rows / height), 0, rows - 1).astype(int)
        there = np.take_along_axis(flat[earlier], row * columns + column, axis=1)
        same = inside & (there > 0) & (np.abs(z - there) < 0.2 * there)
        overlap = same.sum(axis=1) / max(1, int((flat[i] > 0).sum()))
        pairs += [(i, int(j), float(overlap[j])) for j in np.flatnonzero(overlap >= least_overlap)]
    return sorted(pairs, key=lambda pair: -pair[2])


def place_query(
    T_network_query: np.ndarray,
    T_network_cam: np.ndarray,
    T_map_cam: np.ndarray,
    alignment: Alignment,
    neighbours: int = 5,
) -> np.ndarray:
    """Return the pose (4, 4) of a query in the map: its pose relative to the nearest keyframes
    according to the network, applied to their corrected poses. It is a second opinion for the
    localizer.

    T_network_query (4, 4), T_network_cam (N, 4, 4): in the network's frame. T_map_cam (N, 4, 4):
    of the pose graph.
    """
    query, keyframes = alignment.poses(T_network_query), alignment.poses(T_network_cam)
    distance = np.linalg.norm(keyframes[:, :3, 3] - query[:3, 3], axis=1) + se3.rotation_angle(
        se3.inverse(keyframes) @ query
    )
    nearest = np.argsort(np.where(alignment.trusted, distance, np.inf))[:neighbours]
    placed = T_map_cam[nearest] @ se3.inverse(keyframes[nearest]) @ query
    mean = placed[0].copy()
    mean[:3, :3] = placed[:, :3, :3].mean(axis=0)
    mean[:3, 3] = np.median(placed[:, :3, 3], axis=0)
    pose: np.ndarray = se3.orthonormalize(mean)
    return pose
