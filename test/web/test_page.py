"""What the page does with a refined map; no browser yet."""

import time

import cv2
import numpy as np
import pytest

pytest.importorskip("viser", reason="viser is not installed: scripts/setup brings it")

from dataclasses import replace

from vggt3_ros.config import BackendConfig
from vggt3_ros.geometry import se3
from vggt3_ros.store.snapshot import Snapshot
from vggt3_ros.web.finder import Finder
from vggt3_ros.web.page import Page
from vggt3_ros.web.panel import put
from vggt3_ros.web.server import Server
from vggt3_ros.web.timeline import odometry
from vggt3_ros.web.watching import Watch

CONFIG = BackendConfig.from_flat({"device": "cpu"})


@pytest.fixture(scope="module")
def server():
    server = Server("127.0.0.1", 0, "test")
    yield server
    server.stop()


@pytest.fixture
def page(server, refined_folder):
    server.scene.reset()
    server.gui.reset()
    page = Page(server, refined_folder, Finder(refined_folder, CONFIG), 20_000)
    page.show(Watch(refined_folder).look())
    return page


@pytest.fixture(scope="module")
def snapshot(refined_folder):
    return Snapshot.load(refined_folder / "snapshots" / "000001")


def node(server, name):
    handle = server.scene.get_handle_by_name(name)
    assert handle is not None, name
    return handle


def poses(server, prefix, count):
    """{row: T_map_node} of the nodes named /prefix/row."""
    out = {}
    for row in range(count):
        handle = server.scene.get_handle_by_name(f"/{prefix}/{row}")
        if handle is not None:
            out[row] = se3.from_quaternion(handle.position, np.roll(handle.wxyz, -1))
    return out


def map_points(server, count):
    """(M, 3) the points as they stand, in the map."""
    clouds = poses(server, "points", count)
    return np.concatenate(
        [
            se3.transform_points(T, node(server, f"/points/{row}").points.astype(float))
            for row, T in clouds.items()
        ]
    )


def nearest(points, others):
    from scipy.spatial import cKDTree

    return cKDTree(others).query(points)[0]


def test_points_keyframes_and_state_are_those_of_the_snapshot(server, page, snapshot):
    points = map_points(server, len(snapshot))
    assert len(points) == min(20_000, len(snapshot.cloud))
    assert nearest(points, snapshot.cloud.points).max() < 0.01  # 16 bits, at a few metres
    keyframes = poses(server, "keyframes", len(snapshot))
    assert sorted(keyframes) == list(range(len(snapshot)))
    np.testing.assert_allclose(
        np.array([keyframes[k] for k in range(len(snapshot))]), snapshot.T_map_cam, atol=1e-6
    )
    accepted = sum(loop.accepted for loop in snapshot.loops)
    assert accepted and len(node(server, "/accepted/loops").points) == accepted
    rejected = len(snapshot.loops) - accepted
    assert len(node(server, "/rejected/loops").points) == max(rejected, 1)
    status = page.panel.status.content
    for text in (
        f"{len(snapshot)} stored, {len(snapshot)} refined",
        f"{accepted} accepted, {rejected} rejected",
        f"{len(points):,} shown of {len(snapshot.cloud):,}",
        "slots",
        "Refinement 1",
    ):
        assert text in status


def test_the_film_begins_at_the_odometry_with_its_points_and_ends_where_it_was(
    server, page, snapshot
):
    end = map_points(server, len(snapshot))
    put(page.panel.film, 0.0)
    before = poses(server, "keyframes", len(snapshot))
    np.testing.assert_allclose(
        np.array([before[k] for k in range(len(snapshot))]), odometry(snapshot), atol=1e-6
    )
    assert not node(server, "/accepted/loops").visible
    moved = np.linalg.norm(map_points(server, len(snapshot)) - end, axis=1)
    drift = np.linalg.norm(odometry(snapshot)[:, :3, 3] - snapshot.T_map_cam[:, :3, 3], axis=1)
    assert 0.2 * np.median(drift) < np.median(moved) < 5 * drift.max()
    put(page.panel.film, 0.5)
    assert "interpolated" in page.panel.film_text.content
    put(page.panel.film, 1.0)
    np.testing.assert_allclose(map_points(server, len(snapshot)), end, atol=1e-6)


def test_a_keyframe_that_is_clicked_shows_its_image(server, page, snapshot, rendered):
    page.clicked(3)
    shown = node(server, "/keyframes/3").image
    image = cv2.resize(
        rendered.keyframes[3].image, shown.shape[1::-1], interpolation=cv2.INTER_AREA
    )
    assert np.abs(shown.astype(int) - image).mean() < 2
    assert str(int(snapshot.keyframe_ids[3])) in page.panel.said.content
    page.clicked(5)
    assert node(server, "/keyframes/3").image is None
    page.clicked(10_000)  # of a map that was shown before


def test_an_image_is_shown_where_it_was_taken_and_one_that_is_none_is_said(server, page, rendered):
    truth = (
        rendered.T_odom_cam[0] @ se3.inverse(rendered.T_world_cam[0]) @ rendered.T_world_query[0]
    )
    page.find("view.png", cv2.imencode(".png", rendered.queries[0][..., ::-1])[1].tobytes())
    frustum = node(server, "/your_image")
    assert np.linalg.norm(frustum.position - truth[:3, 3]) < 0.1
    assert "Inliers" in page.panel.said.content
    assert page.find("<b>{x}</b>.png", b"GIF89a") is None
    said = page.panel.said.content
    assert "send a JPEG or PNG" in said and "<b>" not in said and "&lt;b&gt;" in said
    assert server.scene.get_handle_by_name("/your_image") is None


def test_high_points_can_be_left_out(server, page, snapshot):
    all_of_them = map_points(server, len(snapshot))
    height = float(np.quantile(all_of_them[:, 2], 0.7))
    put(page.panel.height, height)
    kept = map_points(server, len(snapshot))
    assert len(kept) == pytest.approx(0.7 * len(all_of_them), rel=0.02)
    assert kept[:, 2].max() < height + 0.01
    assert f"{len(kept):,} shown" in page.panel.status.content


def test_a_new_refinement_replaces_the_old_one_and_none_leaves_nothing(
    server, refined_copy, snapshot
):
    server.scene.reset()
    server.gui.reset()
    watch = Watch(refined_copy)
    page = Page(server, refined_copy, Finder(refined_copy, CONFIG), 5000)
    page.show(watch.look())
    moved = snapshot.T_map_cam.copy()
    moved[:, 0, 3] += 0.5
    replace(snapshot, generation=2, T_map_cam=moved).save(refined_copy / "snapshots" / "000002")
    page.show(watch.look())
    assert "Refinement 2" in page.panel.status.content and page.panel.film.max == 2.0
    assert node(server, "/keyframes/1").position[0] == pytest.approx(moved[1, 0, 3])
    put(page.panel.film, 1.0)
    assert node(server, "/keyframes/1").position[0] == pytest.approx(moved[1, 0, 3] - 0.5)
    for folder in ("000001", "000002"):
        Snapshot.remove(refined_copy / "snapshots" / folder)
    page.show(watch.look())
    assert server.scene.get_handle_by_name("/keyframes/1") is None
    assert "waiting for the first refinement" in page.panel.status.content


def test_playing_goes_through_and_stops(server, page, monkeypatch):
    places = []
    page.panel.film.on_update(lambda _: places.append(page.panel.film.value))
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    page.play()
    assert places[0] == 0.0 and places[-1] == 1.0 and places == sorted(places)
    assert len(places) > 20
