"""Pi3X: what it is given, with masks, and how its answer is read."""

from adapter_stand_ins import ask, assert_it_keeps_the_contract, made, scene  # noqa: F401


def test_its_answer_keeps_the_contract(scene):  # noqa: F811
    assert_it_keeps_the_contract(scene, made("pi3x", "Pi3X"))


def test_it_is_told_which_views_have_depth(scene):  # noqa: F811
    adapter = made("pi3x", "Pi3X")
    ask(adapter, scene, depth=(2,), poses=True)
    ray, depth, pose = (mask.tolist() for mask in scene.given["masks"])
    assert (ray, depth, pose) == ([[True] * 3], [[False, False, True]], [[True] * 3])
    assert float(scene.given["depths"][0, 2].mean()) == 2 and not scene.given["depths"][0, 0].any()
    assert "not for commercial use" in adapter.licence


def test_what_no_view_has_is_not_given(scene):  # noqa: F811
    ask(made("pi3x", "Pi3X"), scene, intrinsics=False)
    assert scene.given["depths"] is scene.given["intrinsics"] is scene.given["poses"] is None
