"""A saved map is opened by its path, also while a node writes to it."""

import pytest
from random_keyframes import make_keyframe
from written_map import written_map

from vggt3_ros.cli.saved_map import open_map
from vggt3_ros.store.keyframes import KeyframeStore


def test_the_newest_snapshot_and_a_store_that_cannot_be_written(tmp_path):
    folder, *_, ids, cloud = written_map(tmp_path / "map")
    with open_map(folder) as (store, snapshot):
        assert snapshot.generation == 3 and len(snapshot.cloud) == len(cloud)
        assert store.ids() == ids.tolist() and store.get(5).image.shape == (120, 160, 3)
        with pytest.raises(ValueError):
            store.put(make_keyframe(77))
    (folder / "snapshots" / "000003").rename(folder / "snapshots" / "000002")
    with open_map(str(folder)) as (_, snapshot):
        assert snapshot.generation in (2, 3)


def test_a_node_may_write_meanwhile(tmp_path):
    folder = written_map(tmp_path / "map")[0]
    with KeyframeStore(folder) as writing, open_map(folder) as (store, _):
        writing.put(make_keyframe(11))
        assert 11 in writing.ids() and len(store) >= 5


def test_what_is_no_map_is_named(tmp_path):
    with (
        pytest.raises(ValueError, match="is not a saved map: it holds no keyframes.db"),
        open_map(tmp_path),
    ):
        pass
    with KeyframeStore(tmp_path / "store") as store:
        store.put(make_keyframe(0))
    with (
        pytest.raises(ValueError, match="holds 1 keyframes but no refined map"),
        open_map(tmp_path / "store"),
    ):
        pass
