"""The networks of MapAnything's factory: images as each wants them, one form of answer."""

import pytest
from adapter_stand_ins import ask, assert_it_keeps_the_contract, made, scene  # noqa: F401


def factory(model):
    return made("map_anything_models", "MapAnythingModels", model)


@pytest.mark.parametrize("model, patch", [("vggt", 14), ("pi3x", 14), ("must3r", 16)])
def test_its_answer_keeps_the_contract(scene, model, patch):  # noqa: F811
    assert_it_keeps_the_contract(scene, factory(model), patch)


@pytest.mark.parametrize(
    "model, kind, low",
    [("vggt", "identity", 0.0), ("da3", "dinov2", -2.2), ("must3r", "dust3r", -1.0)],
)
def test_images_are_normalised_as_each_network_wants_them(scene, model, kind, low):  # noqa: F811
    adapter = factory(model)
    ask(adapter, scene)
    view = scene.given["views"][0]
    assert view["data_norm_type"] == [kind]
    assert float(view["img"].min()) == pytest.approx(low, abs=0.1)
    assert "licence unknown" in adapter.licence or "not for commercial use" in adapter.licence


@pytest.mark.parametrize("model, metric", [("vggt", False), ("pi3", False), ("pi3x", True)])
def test_only_some_claim_metres(scene, model, metric):  # noqa: F811
    assert ask(factory(model), scene).metric is metric
