"""The node as a process, SIGKILLed at random moments while keyframes stream and refinements run:
nothing acknowledged is lost, and the last snapshot is served at once. `vggt3 benchmark restarts`
does the same fifty times on the real back end.
"""

from types import SimpleNamespace

import numpy as np
from fake_backend import Backend
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Path
from random_keyframes import make_keyframe
from sensor_msgs.msg import PointCloud2
from vggt3_ros.msg import KeyframePoses
from vggt3_ros.srv import Localize

from vggt3_ros.benchmarks import restarts
from vggt3_ros.config import BackendConfig
from vggt3_ros.ros.load.witness import differences
from vggt3_ros.store.keyframes import KeyframeStore

KILLS = 5
QUICK = {"idle_distillation": 0.0, "status_period": 0.2}


def test_after_each_kill_all_is_there_and_served_before_any_new_refinement(
    random_sequence, context, tmp_path, monkeypatch
):
    monkeypatch.setattr(restarts, "EARLY_SECONDS", 2.0)
    monkeypatch.setattr(restarts, "LATE_SECONDS", 1.0)
    lives = restarts.run(random_sequence, KILLS, 20.0, tmp_path, 0, "fake_backend:Backend", QUICK)
    assert not lives.wrong and not lives.lost
    # On a slow machine two lives may end before there is a snapshot to serve, and a third while it
    # starts.
    assert (
        lives.kills == KILLS
        and lives.served >= KILLS - 3
        and lives.generation >= 2
        and len(lives.acknowledged) > 30
    )
    with KeyframeStore(tmp_path / "restarts_store", read_only=True) as store:
        assert lives.acknowledged <= set(store.ids())
        for id in lives.acknowledged:
            kept, sent = (
                store.get(id),
                random_sequence.keyframes[restarts.Stream(random_sequence).index(id)],
            )
            np.testing.assert_array_equal(kept.image, sent.image)
            np.testing.assert_allclose(kept.T_odom_cam, sent.T_odom_cam, atol=1e-9)


def heard(snapshot, generation=None, points=0, T_map_odom=None):
    """What a node serves of a Snapshot, as it reaches a Witness, and its answer to localize."""
    poses = KeyframePoses(
        generation=snapshot.generation if generation is None else generation,
        ids=snapshot.keyframe_ids.tolist(),
    )
    transform = snapshot.T_map_odom if T_map_odom is None else T_map_odom
    witness = SimpleNamespace(
        poses=poses,
        path=Path(poses=[PoseStamped()] * len(snapshot)),
        transforms=[("map", "odom", transform)],
        cloud=PointCloud2(width=len(snapshot.cloud) + points, height=1),
    )
    return witness, Localize.Response(generation=snapshot.generation)


def test_what_is_not_the_last_snapshot_is_told(tmp_path):
    with KeyframeStore(tmp_path / "store") as store:
        for id in range(3):
            store.put(make_keyframe(id))
        snapshot = Backend(store, BackendConfig()).refine(lambda *_: None, lambda: False)
    assert restarts.newest(tmp_path / "store").generation == snapshot.generation
    found = lambda *served: "; ".join(differences(served[0], snapshot, served[1]))
    assert found(*heard(snapshot)) == ""
    assert "generation 7" in found(*heard(snapshot, generation=7))
    assert "101 points" in found(*heard(snapshot, points=1))
    assert "TF map -> odom" in found(*heard(snapshot, T_map_odom=np.eye(4)))
    witness, answer = heard(snapshot)
    assert "localize returns 1" in found(
        witness, Localize.Response(error_code=Localize.Response.NO_MAP)
    )
    witness.path = Path()
    assert "path has 0" in found(witness, answer)
