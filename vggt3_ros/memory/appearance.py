"""Does an image look as the map says it should from a pose? What tells a place from an object that
stands in two places.

A poster that hangs in two homes gives hundreds of consistent matches and a pose; but then the rest
of the image does not look like what the map has around the poster. Dense features tell: over a
true pose, half the cells that the map expects to be seen had a similarity of at least 0.86 (real
kitchen and rendered rooms, unseen views, maps bent by 4 cm), over the pose of a shared poster at
most 0.65.
"""

import numpy as np

from vggt3_ros.geometry import se3

PARTS = 12  # of the image, along each side: a poster full of slots counts as the parts it covers
NEAREST_M = 0.1  # points nearer to the camera than this are not looked for


def looked_for(query, frames, T_map_cam):
    """Similarity of a query's cells with what the map shows there from T_map_cam.

    query: Frame. frames: [(Frame, its T_map_cam), ...]; those with depth count. -> (h, w) float32
    cosine similarity, the best of all frames, NaN where no frame shows anything. A cell that one
    frame sees occluded may be seen by another.
    """
    features = query.features
    height, width = features.reliability.shape
    best = np.full(height * width, -np.inf, np.float32)
    for frame, pose in frames:
        known = frame.cell_depth.reshape(-1) > 0
        centres = frame.features.cell_centres().reshape(-1, 2)[known]
        points = frame.camera.unproject(centres, frame.cell_depth.reshape(-1)[known])
        points = se3.transform_points(se3.inverse(T_map_cam) @ pose, points)
        ahead = points[:, 2] > NEAREST_M
        pixels = query.camera.project(points[ahead])
        cells = (pixels + 0.5) * (width / features.width, height / features.height) - 0.5
        column, row = np.rint(cells).astype(np.int64).T
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        there = _sampled(features.dense, cells[inside])
        remembered = _unit(
            frame.features.dense.reshape(len(features.dense), -1)[
                :, np.flatnonzero(known)[ahead][inside]
            ]
        )
        np.maximum.at(best, row[inside] * width + column[inside], (there * remembered).sum(0))
    return np.where(np.isfinite(best), best, np.nan).reshape(height, width)


def remembered(query, pixels, keys):
    """As :func:`looked_for`, of what a scene memory expects: its slots' pixels (N, 2) in the query
    and keys (N, C) -> (PARTS, PARTS) of the image: median similarity in each, NaN where nothing is
    expected.
    """
    features = query.features
    height, width = features.reliability.shape
    there = _sampled(
        features.dense, (pixels + 0.5) * (width / features.width, height / features.height) - 0.5
    )
    similarity = (there * _unit(keys.T)).sum(0)
    column, row = (
        np.clip(pixels * PARTS / (features.width, features.height), 0, PARTS - 1).astype(int).T
    )
    part = row * PARTS + column
    out = np.full(PARTS**2, np.nan)
    for k in np.unique(part):
        out[k] = np.median(similarity[part == k])
    return out.reshape(PARTS, PARTS)


def agreement(similarity):
    """(h, w) of :func:`looked_for` or :func:`remembered` -> (median similarity, share of the image
    the map shows anything for); (0, 0) when nothing.
    """
    shown = similarity[np.isfinite(similarity)]
    return (float(np.median(shown)), len(shown) / similarity.size) if len(shown) else (0.0, 0.0)


def _sampled(dense, cells):
    """(C, h, w) at (N, 2) column, row -> (C, N) of unit length, bilinear."""
    height, width = dense.shape[1:]
    column, row = np.clip(cells, 0, (width - 1.001, height - 1.001)).T
    left, top = column.astype(np.int64), row.astype(np.int64)
    right, down = (column - left).astype(np.float32), (row - top).astype(np.float32)
    flat, at = dense.reshape(len(dense), -1), top * width + left
    upper = flat[:, at].astype(np.float32) * (1 - right) + flat[:, at + 1] * right
    lower = flat[:, at + width].astype(np.float32) * (1 - right) + flat[:, at + width + 1] * right
    return _unit(upper * (1 - down) + lower * down)


def _unit(columns):
    columns = columns.astype(np.float32)
    return columns / np.maximum(np.linalg.norm(columns, axis=0), 1e-6)
