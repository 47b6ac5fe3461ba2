"""Progress is told after each item."""

from vggt3_ros.benchmarks.progress import with_progress


def test_every_item_comes_once_and_is_told_of_after_it_was_used():
    told, used = [], []
    for item in with_progress("abcd", lambda text, done: told.append((text, done)), "letters"):
        assert len(told) == len(used)
        used.append(item)
    assert "".join(used) == "abcd"
    assert told == [("letters", 0.25), ("letters", 0.5), ("letters", 0.75), ("letters", 1.0)]
    assert not list(with_progress([], lambda text, done: told.append("never"), "none"))
    assert "never" not in told
