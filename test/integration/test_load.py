"""The soak and the load benchmark in seconds, on the fake back end: what they count is what
happened.
"""

from vggt3_ros.benchmarks import node as benchmark
from vggt3_ros.benchmarks import session, soak
from vggt3_ros.ros.load import mischief
from vggt3_ros.store.keyframes import KeyframeStore

QUICK = {"memory.steps": 5, "refine_every_keyframes": 3, "idle_distillation": 0.0}
SLOWER = 3  # a machine on which times must hold, too
# of the node in the last half of a few seconds: it may still be warming up, but keeps no images
GROWTH_MB = 40.0


def test_a_soak_kills_the_worker_and_everything_goes_on(
    random_sequence, context, tmp_path, monkeypatch
):
    """Every row is met. Of the two that tell of time, one has a target for this machine's worst,
    the other one for seconds, not minutes.
    """
    minutes = 0.15
    monkeypatch.setattr(mischief, "KILL_PAUSE", (1.0, 2.0))
    monkeypatch.setattr(soak, "AGE_TARGET", SLOWER * soak.AGE_TARGET)
    monkeypatch.setattr(soak, "NODE_MB_PER_MINUTE", GROWTH_MB / (minutes / 2))
    table = soak.run(random_sequence, minutes, 6.0, tmp_path, 3, "fake_backend:Backend", QUICK)
    rows = {what: (measured, met) for what, measured, _, met in table}
    assert not {what: row for what, row in rows.items() if row[1] is False}
    assert {
        "greatest age of map->odom",
        "its growth over the second half",
        "kills of the worker followed by a completed refinement",
        "uncaught exceptions",
        "malformed requests answered",
    } <= {what for what, row in rows.items() if row[1]}
    # noise has no truth
    assert rows["keyframes lost"] == ("0 of 54", True) and rows["its error (ATE)"][1] is None


def test_the_benchmark_counts_what_was_stored(random_sequence, context, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "BURST", 60)
    result = benchmark.run(random_sequence, 4.0, 5.0, 0.3, tmp_path, "fake_backend:Backend", QUICK)
    with KeyframeStore(tmp_path / "load_store", read_only=True) as store:
        assert store.ids() == list(range(20))
    assert (result["load"]["lost"], result["load"]["refused"], result["ingest"]["taken"]) == (
        0,
        0,
        60,
    )
    assert result["load"]["refinements"] >= 1 and result["load"]["localize"]["localized"] > 0
    assert 0 < result["load"]["greatest_age"] < 30 and result["ingest"]["per_second"] > 0


def test_a_session_is_refined_batch_by_batch_and_its_memory_seen(
    random_sequence, context, tmp_path
):
    seen = []
    result = session.run(
        random_sequence,
        2,
        0.2,
        tmp_path,
        "fake_backend:Backend",
        {**QUICK, "refine_every_keyframes": 0},
        seen.append,
    )
    assert (
        [row["keyframes"] for row in result["rows"]]
        == [row["refined"] for row in result["rows"]]
        == seen
        == [2, 4, 5]
    )
    assert result["lost"] == 0 and all(
        row["node_mb"] > 20 and row["worker_mb"] > 20 for row in result["rows"]
    )
    assert max(row["peak_mb"] for row in result["rows"]) <= result["peak_mb"]
    assert [
        met for *_, met in session.table(result, result["peak_mb"] - 1) if met is not None
    ] == [False, True]
