"""A TUM folder of the first rendered keyframes, with the unseen views nearest to them."""

import numpy as np
import pytest

from vggt3_ros.datasets.sequence import KeyframeList, Query, Sequence
from vggt3_ros.datasets.tum import write_tum

KEYFRAMES, QUERIES = 14, 3


@pytest.fixture(scope="session")
def peers_folder(rendered, tmp_path_factory):
    some, stamps = rendered.keyframes[:KEYFRAMES], rendered.stamps_ns[:KEYFRAMES]
    truth = rendered.T_world_cam[:KEYFRAMES]
    away = [
        np.linalg.norm(truth[:, :3, 3] - T[:3, 3], axis=1).min() for T in rendered.T_world_query
    ]
    queries = [
        Query(
            int(rendered.stamps_ns[-1]) + 1 + n,
            lambda k=k: rendered.queries[k],
            rendered.T_world_query[k],
        )
        for n, k in enumerate(np.argsort(away)[:QUERIES].tolist())
    ]
    keyframes = KeyframeList(
        rendered.camera,
        stamps,
        rendered.T_odom_cam[:KEYFRAMES],
        lambda i: some[i].image,
        lambda i: some[i].depth,
    )
    folder = tmp_path_factory.mktemp("peers") / "room"
    write_tum(folder, Sequence("room", rendered.camera, stamps, keyframes, truth, queries))
    return folder
