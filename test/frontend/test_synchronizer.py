"""Synchronization by nearest stamps in any order of arrival; a missing message blocks nothing."""

from hypothesis import given
from hypothesis import strategies as st

from vggt3_ros.frontend.synchronizer import WAIT, Miss, Nearest, Synchronizer

MS = 1_000_000


def synchronizer(tolerance_ms=20, queue=10):
    return Synchronizer({"depth": Nearest(tolerance_ms * MS, 50)}, queue)


def sets(sync):
    return [(stamp // MS, image, found["depth"]) for stamp, image, found in sync.ready()]


@given(
    st.lists(st.integers(-15, 15), min_size=20, max_size=20),
    st.sets(st.integers(0, 18)),
    st.randoms(),
)
def test_jittered_and_missing_partners(jitter, lost, random):
    """Depth of every image within 15 ms of it, 100 ms apart, some of it lost; late by any time, in
    order within its topic as in DDS.
    """
    sync = synchronizer(queue=100)
    queues = {"image": list(range(20)), "depth": [i for i in range(20) if i not in lost]}
    heard = []
    while any(queues.values()):
        topic = random.choice([topic for topic, waiting in queues.items() if waiting])
        i = queues[topic].pop(0)
        if topic == "image":
            sync.add(i * 100 * MS, f"image{i}")
        else:
            sync.tracks["depth"].add((i * 100 + jitter[i]) * MS, f"depth{i}")
        heard += sets(sync)
    sync.tracks["depth"].add(10_000 * MS, "the end")
    heard += sets(sync)
    wanted = [i for i in range(20) if i not in lost]
    assert heard == [(i * 100, f"image{i}", f"depth{i}") for i in wanted]
    assert sync.missed["depth"] == len(lost)


@given(
    st.lists(st.integers(0, 1000), min_size=1, max_size=30, unique=True),
    st.integers(0, 1000),
    st.integers(0, 200),
)
def test_nearest_is_nearest(stamps, wanted, tolerance):
    track = Nearest(tolerance, 100)
    for stamp in stamps:
        track.add(stamp, stamp)
    best = min(abs(stamp - wanted) for stamp in stamps)
    found = track.at(wanted)
    if max(stamps) < wanted:
        assert found is WAIT
    elif best > tolerance:
        assert isinstance(found, Miss)
    else:
        assert abs(found - wanted) == best


def test_an_exact_match_does_not_wait_for_the_next_message():
    sync = synchronizer()
    sync.tracks["depth"].add(0, "depth")
    sync.add(0, "image")
    assert sets(sync) == [(0, "image", "depth")]


def test_a_partner_that_has_stopped_costs_the_oldest_images_only():
    sync = synchronizer(queue=3)
    for i in range(5):
        sync.add(i * 100 * MS, i)
    assert sets(sync) == [] and sync.missed["depth"] == 2
    assert sync.last_miss == "depth: none has arrived for it"
    for i in range(5):
        sync.tracks["depth"].add(i * 100 * MS, i)
    assert [image for _, image, _ in sets(sync)] == [2, 3, 4]


def test_a_miss_says_how_far_off_the_nearest_was():
    sync = synchronizer(tolerance_ms=20)
    sync.add(1000 * MS, "image")
    sync.tracks["depth"].add(1123 * MS, "depth")
    assert sets(sync) == [] and sync.last_miss == "depth: the nearest is 0.123 s off"


def test_a_restarted_bag_is_followed():
    sync = synchronizer()
    for start in (50_000, 0):
        sync.add(start * MS, "waiting")
        for i in range(1, 3):
            sync.add((start + i * 100) * MS, i)
            sync.tracks["depth"].add((start + i * 100) * MS, i)
        assert list(sets(sync)) == [(start + 100, 1, 1), (start + 200, 2, 2)]


def test_without_tracks_nothing_waits():
    sync = Synchronizer({}, 3)
    sync.add(5, "image")
    assert list(sync.ready()) == [(5, "image", {})]
