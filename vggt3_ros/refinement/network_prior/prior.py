"""What the network predicts, in the odometry's frame and metres, as the other stages take it:
poses, depth, edges, candidates.

The network sees all keyframes at once and does not drift, but knows no scale and is a few
centimetres off; odometry is metric and smooth and drifts. So the network is aligned to the
odometry as a whole (robust Sim(3)), and then speaks only about motions between keyframes far
apart, weighted by how far the two disagree there.
"""

from dataclasses import dataclass, replace

import numpy as np

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.alignment import Alignment, align, segment_scales
from vggt3_ros.refinement.pose_graph import Edge

LAGS = (8, 24, 72, 216)  # keyframes between the ends of an edge
# published accuracy of the network at room scale: it is never believed beyond this
FLOOR_M, FLOOR_RAD = 0.05, 0.02
# on standard deviations: edges share endpoints, and a smooth warp is wrong in many of them at once
CAUTION = 2.0
# the same, further, between keyframes that verified loops tie: those are right to 2 cm, and the
# odometry does the rest
BESIDE_LOOPS = 3.0


@dataclass(frozen=True, eq=False)
class Prior:
    """The network's view of N keyframes in the odometry frame.

    T_odom_cam (N, 4, 4); trusted (N,) mask; metres_per_unit: multiply the network's depth by it;
    segment_scales: see geometry.alignment; edges: relative motions for the pose graph, with
    information.
    """

    T_odom_cam: np.ndarray
    trusted: np.ndarray
    alignment: Alignment
    segment_scales: np.ndarray
    edges: tuple

    @property
    def metres_per_unit(self):
        return self.alignment.scale


def make_prior(T_odom_cam, T_network_cam, confidence=None, known_scale=None):
    """Odometry and network poses (N, 4, 4) of the same keyframes, confidence (N,) of the latter ->
    Prior.

    known_scale: (metres per unit, relative standard deviation) by a depth sensor; see
    geometry.alignment.align. Raises geometry.alignment.DegenerateMotion where the motion does not
    tie the two together; then the network says nothing.
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


def relative_edges(T_odom_cam, T_aligned_cam, trusted):
    """Edges between trusted keyframes far apart, by the network -> list of Edge.

    What odometry and network disagree by over a number of keyframes bounds the network's own error
    there, so it is the edge's standard deviation, times CAUTION: pessimistic where the odometry is
    at fault, right where the network is.
    """
    edges = []
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


def beside_loops(edges, loops):
    """The edges, those with less say between whose ends at least two loops end that are half as
    long or longer -> list of Edge.

    edges, loops: of pose_graph.Edge.
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


def _trusted_pairs(trusted, lag):
    """Pairs of trusted keyframes about `lag` apart, one every half lag."""
    index, reach = np.flatnonzero(trusted), lag // 4
    for first in range(0, len(trusted) - lag, lag // 2):
        ends = (
            [index[np.argmin(np.abs(index - end))] for end in (first, first + lag)]
            if len(index)
            else ()
        )
        if all(
            abs(found - end) <= reach for found, end in zip(ends, (first, first + lag))
        ) and len(ends):
            yield int(ends[0]), int(ends[1])


def metric_depth(depth, confidence, metres_per_unit, least_confidence=1.5):
    """Network depth (H, W) in its own units -> float32 metres along z, 0 where the network is not
    sure.
    """
    return np.where(confidence >= least_confidence, depth * metres_per_unit, 0).astype(np.float32)


def scale_from_depth(sensor_depth, network_depth, confidence, least_pixels=100):
    """Metres per network unit from pixels that a depth sensor saw (M,) or (H, W), by the weighted
    median ratio; NaN with too few.
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


def covisible(T_odom_cam, matrices, depth, size, least_overlap=0.3, least_gap=3):
    """Pairs (i, j, overlap), i > j + least_gap, of keyframes that see the same surface, most
    overlap first: candidate loops.

    T_odom_cam (N, 4, 4); matrices (N, 3, 3) pinhole, pixels; depth (N, h, w) metres sampled evenly
    over the image, 0 unknown; size (height, width) of the images in pixels. The overlap is the
    share of i's surface points that fall into j's image in front of what j sees there (within a
    fifth of the distance).
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
    pairs = []
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


def place_query(T_network_query, T_network_cam, T_map_cam, alignment, neighbours=5):
    """Pose of a query in the map (4, 4): where the network puts it beside its nearest mapped
    keyframes, which the map has moved.

    T_network_query (4, 4) and T_network_cam (N, 4, 4) in the network's frame, T_map_cam (N, 4, 4)
    as the pose graph left them. A second opinion for the localizer.
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
    return se3.orthonormalize(mean)
