"""map() and query() as the back end uses them: scenes are values, calls are independent, and can
be stopped.
"""

import copy
import dataclasses
import threading
import time

import pytest
import torch
from tiny_network import (
    SIZE,
    one_thread,  # noqa: F401
    random_images,
    relative,
    tiny_network,
)

from vggt3_ros.network import map_pass
from vggt3_ros.network.memory_plan import NotEnoughMemory
from vggt3_ros.network.progress import Progress
from vggt3_ros.network.values import SceneState
from vggt3_ros.system.stages import Cancelled


@pytest.fixture(scope="module")
def network():
    return tiny_network()


@pytest.fixture(scope="module")
def mapped(network):
    return network.map(random_images(4), depth_frames=[0])


def test_permuting_images_other_than_the_first_only_permutes_the_results(network, mapped):
    order = [0, 3, 1, 2]
    predictions, scene = network.map(random_images(4)[order])
    assert relative(predictions.pose_encoding, mapped[0].pose_encoding[order]) < 1e-5
    assert relative(scene.fast_weights, mapped[1].fast_weights) < 1e-4
    assert relative(scene.camera_tokens, mapped[1].camera_tokens[order]) < 1e-5


def test_another_first_image_is_another_world_frame(network, mapped):
    predictions, _ = network.map(random_images(4)[[1, 0, 2, 3]])
    assert relative(predictions.pose_encoding, mapped[0].pose_encoding[[1, 0, 2, 3]]) > 1e-3


def test_a_query_leaves_the_scene_as_it_was(network, mapped):
    scene = mapped[1]
    before = scene.fast_weights.clone(), scene.camera_tokens.clone()
    first = network.query(random_images(1, seed=7), scene, depth_frames=[0])
    again = network.query(random_images(1, seed=7), scene, depth_frames=[0])
    assert torch.equal(scene.fast_weights, before[0]) and torch.equal(
        scene.camera_tokens, before[1]
    )
    assert torch.equal(first.pose_encoding, again.pose_encoding)


def test_queries_do_not_see_each_other(network, mapped):
    together = network.query(random_images(3, seed=7), mapped[1], depth_frames=[2])
    apart = [
        network.query(random_images(3, seed=7)[i : i + 1], mapped[1], depth_frames=[0])
        for i in range(3)
    ]
    assert (
        relative(together.pose_encoding, torch.cat([answer.pose_encoding for answer in apart]))
        < 1e-5
    )
    assert relative(together.depth.values, apart[2].depth.values) < 1e-5


def test_another_scene_gives_another_answer(network, mapped):
    _, other = network.map(random_images(4, seed=11))
    image = random_images(1, seed=7)
    here, there = (network.query(image, scene).pose_encoding for scene in (mapped[1], other))
    assert relative(here, there) > 1e-3


def test_queries_while_maps_are_running_are_correct(network, mapped):
    image, images = random_images(1, seed=7), random_images(6, seed=5)
    expected_answer = network.query(image, mapped[1]).pose_encoding
    expected_map = network.map(images)[0].pose_encoding
    answers, maps, mapping = [], [], threading.Event()

    def keep_mapping():
        maps.extend(
            network.map(images, progress=Progress(lambda *_: mapping.set()))[0].pose_encoding
            for _ in range(3)
        )

    def keep_asking():
        mapping.wait(30)
        answers.extend(network.query(image, mapped[1]).pose_encoding for _ in range(3))

    threads = [threading.Thread(target=work) for work in (keep_mapping, keep_asking, keep_asking)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 6 and len(maps) == 3
    assert all(relative(answer, expected_answer) < 1e-5 for answer in answers)
    assert all(relative(poses, expected_map) < 1e-5 for poses in maps)


def test_the_same_weights_in_another_precision_are_the_same_network_and_other_weights_are_not(
    network,
):
    assert copy.deepcopy(network).to(torch.bfloat16).fingerprint() == network.fingerprint()
    other = copy.deepcopy(network)
    other.aggregator.camera_token += 0.1
    assert other.fingerprint() != network.fingerprint() != tiny_network("softmax").fingerprint()


def test_a_scene_of_another_network_is_refused(network, mapped):
    foreign = SceneState(mapped[1].fast_weights, mapped[1].camera_tokens, "0123456789abcdef")
    with pytest.raises(ValueError, match="made by another network"):
        network.query(random_images(1), foreign)


def test_softmax_keeps_no_scene(mapped):
    softmax = tiny_network("softmax")
    assert softmax.map(random_images(2))[1] is None
    with pytest.raises(ValueError, match="has no scene state"):
        softmax.query(random_images(1), mapped[1])


@pytest.mark.parametrize(
    "images, options, word",
    [
        (torch.zeros(0, 3, 28, 28), {}, "no images"),
        (torch.zeros(2, 3, 30, 28), {}, "multiples of 14"),
        (torch.zeros(2, 1, 28, 28), {}, r"\[N, 3, H, W\]"),
        (torch.zeros(2, 3, 28, 28), {"depth_frames": [2]}, "exceed the 2 images"),
    ],
)
def test_bad_input_is_refused_with_the_reason(network, mapped, images, options, word):
    with pytest.raises(ValueError, match=word):
        network.map(images, **options)
    with pytest.raises(ValueError, match=word):
        network.query(images, mapped[1], **options)


def test_progress_rises_to_one_and_names_the_stages(network):
    reports = []
    network.map(
        random_images(3),
        depth_frames=[1],
        progress=Progress(lambda *report: reports.append(report)),
    )
    fractions, stages = zip(*reports, strict=True)
    assert list(fractions) == sorted(fractions) and fractions[-1] == 1.0
    assert {"encoder", "layer 1 of 3", "layer 3 of 3", "dense heads"} <= set(stages)


@pytest.mark.parametrize("checks", [1, 5, 20])
def test_a_map_stops_at_the_first_check_after_it_is_cancelled(network, checks):
    count = 0

    def cancelled():
        nonlocal count
        count += 1
        return count >= checks

    with pytest.raises(Cancelled):
        network.map(
            random_images(3), depth_frames=range(3), progress=Progress(cancelled=cancelled)
        )
    assert count == checks


@pytest.mark.parametrize("attention", ["ttt", "softmax"])
def test_a_cancel_is_asked_after_every_block_of_every_chunk(attention):
    """At full size a block takes a CPU a tenth of a second an image: this is what keeps a cancel
    within two seconds.
    """
    network, checks = tiny_network(attention), []
    plan = dataclasses.replace(network.plan(3, SIZE), chunk_images=1)
    network.map(
        random_images(3),
        plan=plan,
        progress=Progress(cancelled=lambda: checks.append(1) and False),
    )
    blocks = network.config.encoder_shape.depth + 2 * network.config.depth
    assert (
        len(checks) >= 3 * blocks + network.config.camera_iterations * network.config.camera_depth
    )


def test_a_cancel_from_another_thread_ends_the_map(network):
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    with pytest.raises(Cancelled):
        while True:
            network.map(random_images(8), progress=Progress(cancelled=stop.is_set))
            time.sleep(0)


def test_bfloat16_stays_close_to_float32(network, mapped):
    import copy

    narrow = copy.deepcopy(network)
    narrow.aggregator.to(torch.bfloat16)
    predictions, scene = narrow.map(random_images(4), depth_frames=[0])
    assert relative(predictions.pose_encoding, mapped[0].pose_encoding) < 0.1
    assert relative(predictions.depth.values, mapped[0].depth.values) < 0.1
    answer = narrow.query(random_images(1, seed=7), scene)
    assert (
        relative(
            answer.pose_encoding, network.query(random_images(1, seed=7), mapped[1]).pose_encoding
        )
        < 0.1
    )


@pytest.mark.parametrize("size", [SIZE, (28, 70)])
def test_images_of_another_size_than_the_map_can_be_queried(network, mapped, size):
    answer = network.query(random_images(1, size), mapped[1], depth_frames=[0])
    assert answer.depth.values.shape == (1, *size)


@pytest.mark.parametrize(
    "attention, error",
    [
        ("ttt", torch.OutOfMemoryError("no room for two")),
        ("ttt", MemoryError()),  # as Python raises it
        ("softmax", RuntimeError("DefaultCPUAllocator: can't allocate memory")),
    ],
)
def test_out_of_memory_halves_the_plan_and_tries_again(monkeypatch, attention, error):
    network = tiny_network(attention)
    images = random_images(5)
    expected, _ = network.map(images)
    chunk_sizes = []
    load = map_pass.load_images

    def limited(images, part, device, dtype):
        chunk_sizes.append(part.stop - part.start)
        if chunk_sizes[-1] > 1:
            raise error
        return load(images, part, device, dtype)

    monkeypatch.setattr(map_pass, "load_images", limited)
    result, _ = network.map(images)
    assert chunk_sizes == [5, 2, 1, 1, 1, 1, 1]
    assert relative(result.pose_encoding, expected.pose_encoding) < 1e-5


def test_out_of_memory_with_the_smallest_plan_is_an_error_with_the_numbers(monkeypatch):
    network = tiny_network()

    def never(*_):
        raise RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate"
        )

    monkeypatch.setattr(map_pass, "load_images", never)
    with pytest.raises(NotEnoughMemory, match="1 images at once.*tokens on disk.*recomputed"):
        network.map(random_images(3))


def test_another_error_is_not_taken_for_memory(monkeypatch):
    def broken(*_):
        raise RuntimeError("the disk is on fire")

    monkeypatch.setattr(map_pass, "load_images", broken)
    with pytest.raises(RuntimeError, match="on fire"):
        tiny_network().map(random_images(2))
