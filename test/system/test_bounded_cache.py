"""The bounded cache: the least recently used value is evicted first, and the limit holds."""

from hypothesis import given
from hypothesis import strategies as st

from vggt3_ros.system.bounded_cache import BoundedCache


def test_the_least_recently_used_value_is_evicted_first():
    cache = BoundedCache(30)
    for key in "abc":
        cache.put(key, key.upper(), 10)
    assert cache.get("a") == "A"
    cache.put("d", "D", 10)
    assert cache.get("b") is None and cache.values() == ["C", "A", "D"]
    cache.put("e", "E", 25)
    assert cache.values() == ["E"] and cache.nbytes == 25


def test_a_value_larger_than_the_limit_is_kept_until_the_next():
    cache = BoundedCache(10)
    cache.put("small", 1, 5)
    cache.put("large", 2, 50)
    assert cache.values() == [2] and cache.nbytes == 50
    cache.put("small", 1, 5)
    assert cache.values() == [1] and cache.nbytes == 5


def test_replaced_removed_and_cleared_values_no_longer_count():
    cache = BoundedCache(100)
    cache.put("a", 1, 40)
    cache.put("a", 2, 10)
    assert (cache.get("a"), cache.nbytes, len(cache)) == (2, 10, 1)
    cache.pop("a")
    cache.pop("never there")
    assert cache.get("a") is None and cache.nbytes == 0
    cache.put("b", 3, 10)
    cache.clear()
    assert len(cache) == cache.nbytes == 0


@given(
    st.integers(0, 50),
    st.lists(st.tuples(st.sampled_from("pgr"), st.integers(0, 5), st.integers(0, 30))),
)
def test_it_behaves_as_a_list_ordered_by_last_use(limit, operations):
    cache, model = BoundedCache(limit), []  # (key, bytes), the most recently used last
    for kind, key, nbytes in operations:
        if kind == "p":
            cache.put(key, (key, nbytes), nbytes)
            model = [entry for entry in model if entry[0] != key] + [(key, nbytes)]
            while sum(size for _, size in model) > limit and len(model) > 1:
                model.pop(0)
        elif kind == "g":
            found = [entry for entry in model if entry[0] == key]
            assert cache.get(key) == (found[0] if found else None)
            model = [entry for entry in model if entry[0] != key] + found
        else:
            cache.pop(key)
            model = [entry for entry in model if entry[0] != key]
        assert cache.values() == model and cache.nbytes == sum(size for _, size in model)
