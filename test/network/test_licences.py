"""Licences: named by the name the weights were given, never guessed from what is in the file, and
the same everywhere they are told.
"""

import re

import pytest
from folders import ROOT

from vggt3_ros.network.licences import (
    FOR_ADAPTERS,
    FOR_CHECKPOINT,
    FREE,
    NON_COMMERCIAL,
    licence_of,
)


@pytest.mark.parametrize(
    "spec, expected",
    [
        ("facebook/VGGT-1B", "CC-BY-NC-4.0, not for commercial use"),
        ("facebook/VGGT-1B@main", "CC-BY-NC-4.0, not for commercial use"),
        (
            "facebook/VGGT-1B-Commercial@0123abc",
            "VGGT licence with an acceptable use policy, gated, commercial use under the publisher's conditions",
        ),
        ("nvidia/vgg-ttt", "NVIDIA OneWay Noncommercial, not for commercial use"),
        (
            "/cache/models--facebook--VGGT-1B-Commercial/snapshots/0123/vggt_1B_commercial.pt",
            "VGGT licence with an acceptable use policy, gated, "
            "commercial use under the publisher's conditions",
        ),
        (
            "/cache/models--nvidia--vgg-ttt/snapshots/0123",
            "NVIDIA OneWay Noncommercial, not for commercial use",
        ),
        ("facebook/map-anything-apache", "Apache-2.0, commercial use allowed"),
        ("facebook/map-anything", "CC-BY-NC-4.0, not for commercial use"),
        ("depth-anything/DA3-BASE", "Apache-2.0, commercial use allowed"),
        ("depth-anything/DA3-LARGE-1.1", "CC-BY-NC-4.0, not for commercial use"),
    ],
)
def test_known_weights_by_id_and_by_the_hub_s_folder(spec, expected):
    assert licence_of(spec) == expected


@pytest.mark.parametrize(
    "spec", ["/weights/model.safetensors", "someone/VGGT-1B", "", "/data/facebook/VGGT-1B.pt"]
)
def test_any_other_file_has_an_unknown_licence(spec):
    assert licence_of(spec).startswith("licence unknown")


def test_no_weights_are_named_twice_and_none_is_free_by_mistake():
    known = FOR_CHECKPOINT + FOR_ADAPTERS
    assert len({weights.hub_id.lower() for weights in known}) == len(known)
    for weights in known:
        assert ("NC" in weights.licence or "Noncommercial" in weights.licence) == (
            weights.use == NON_COMMERCIAL
        )
        assert weights.use != FREE or weights.licence == "Apache-2.0"


def test_nobody_says_that_the_public_vggt_weights_are_under_another_licence():
    """The wrong licence once stood in four places."""
    for path in [*ROOT.glob("vggt3_ros/**/*.py"), *ROOT.glob("config/*")]:
        text = path.read_text()
        for place in re.finditer(r"facebook/VGGT-1B(?!-Commercial)", text):
            assert "Meta's VGGT licence" not in text[place.start() : place.start() + 200], path
