"""MapAnything: what it is given, view by view, and how its answer is read."""

from adapter_stand_ins import ask, assert_it_keeps_the_contract, made, scene  # noqa: F401


def test_its_answer_keeps_the_contract(scene):  # noqa: F811
    assert_it_keeps_the_contract(scene, made("map_anything", "MapAnything"))


def test_it_is_given_what_is_known_view_by_view(scene):  # noqa: F811
    adapter = made("map_anything", "MapAnything")
    answer = ask(adapter, scene, depth=(0, 2), poses=True)
    assert scene.given["weights"] == "facebook/map-anything-apache"
    assert adapter.licence == "Apache-2.0, commercial use allowed" and answer.metric
    given = scene.given["views"]
    assert ["depth_z" in view for view in given] == [True, False, True]
    assert all("camera_poses" in view and "intrinsics" in view for view in given)
    assert scene.given["use_amp"] is False  # float32


def test_depth_without_a_camera_is_not_given(scene):  # noqa: F811
    ask(made("map_anything", "MapAnything"), scene, intrinsics=False, depth=(0,))
    unknown = {"depth_z", "intrinsics", "camera_poses"}
    assert not any(unknown & set(view) for view in scene.given["views"])
