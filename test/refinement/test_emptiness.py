"""Why a map is empty: the sentence names the parameter that fills it."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from random_keyframes import make_keyframe

from vggt3_ros import Backend, BackendConfig, KeyframeStore
from vggt3_ros.refinement.emptiness import why_empty


def frames(*depths):
    return [SimpleNamespace(cell_depth=np.full((6, 8), depth, np.float32)) for depth in depths]


@pytest.mark.parametrize(
    "seen, estimate, words",
    [
        (
            frames(12, 20, 30, 0),
            "auto",
            "is 12.0 to 30.0 m (median 20.0 m), but map.max_depth is 5 m: raise it",
        ),
        (
            frames(0, 0),
            "auto",
            "none of the 2 keyframes examined has depth: without a depth camera, depth",
        ),
        (
            frames(0, 0),
            "never",
            "none of the 2 keyframes examined has depth: set depth.estimate to auto or always",
        ),
        (
            frames(2, 0, 3),
            "auto",
            "2 of the 3 keyframes examined have depth within map.max_depth (5 m): look at the weights",
        ),
    ],
)
def test_it_names_the_parameter_to_change(seen, estimate, words):
    assert words in why_empty(iter(seen), 5.0, "map.max_depth", "look at the weights", estimate)


@pytest.mark.parametrize(
    "metres, settings, words",
    [
        (40.0, {"scene_scale": 1.0}, "map.max_depth is 5 m: raise it"),
        (None, {"depth.estimate": "never"}, "set depth.estimate to auto or always"),
    ],
)
def test_a_refinement_whose_map_is_empty_says_why(tmp_path, caplog, metres, settings, words):
    with KeyframeStore(tmp_path / "store") as store:
        backend = Backend(store, BackendConfig.from_flat({"device": "cpu", **settings}))
        for i in range(3):
            backend.add(
                replace(
                    make_keyframe(i),
                    depth=None if metres is None else np.full((48, 64), metres, np.float32),
                )
            )
        snapshot = backend.refine()
        backend.close()
    assert len(snapshot.cloud) == 0 and len(snapshot.report["empty"]) == 2
    for what, text in zip(
        ("the map is empty", "the scene memory is empty"), snapshot.report["empty"]
    ):
        assert text.startswith(what) and text in caplog.text
    assert words in snapshot.report["empty"][0]
