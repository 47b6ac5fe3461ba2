"""One layer over all images: the order of chunks does not matter, and the work can be stopped."""

import pytest
import torch
from tiny_network import SIZE, one_thread, relative, tiny_network  # noqa: F401

from vggt3_ros.network.mixing import FastWeightMixer, SoftmaxMixer
from vggt3_ros.network.parallel import Alone
from vggt3_ros.network.progress import Progress
from vggt3_ros.network.scratch import Scratch
from vggt3_ros.network.token_store import DeviceStore
from vggt3_ros.system.stages import Cancelled

CPU = torch.device("cpu")
IMAGES, HEADS = 4, 6
ONE_BY_ONE = [slice(i, i + 1) for i in range(IMAGES)]


def setting(attention):
    trunk = tiny_network(attention).aggregator
    layout = trunk.layout(*SIZE)
    x = torch.randn(IMAGES, layout.tokens, 384, generator=torch.Generator().manual_seed(0))
    tokens = DeviceStore(x.shape, CPU, torch.float32)
    tokens.write(slice(0, IMAGES), x)
    return trunk.global_blocks[0], layout, x, tokens


def fast(steps=3, keep=True, group=None, progress=None):
    block, layout, x, tokens = setting("ttt")
    kept = DeviceStore((*x.shape[:2], 2 * 384 + 3 * HEADS), CPU, torch.float32) if keep else None
    scratch = Scratch(CPU, torch.float32)
    mixer = FastWeightMixer(
        block, steps, layout, scratch, kept, group or Alone(), progress or Progress()
    )
    return mixer, x, tokens


def settled(parts, **options):
    mixer, x, tokens = fast(**options)
    for part in parts:
        mixer.absorb(part, x[part].clone())
    mixer.settle(tokens, parts)
    return mixer


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("parts", [ONE_BY_ONE, [slice(0, 3), slice(3, 4)], ONE_BY_ONE[::-1]])
def test_chunks_and_recomputation_give_the_same_weights(parts, keep):
    whole = settled([slice(0, IMAGES)]).weights
    assert relative(settled(parts, keep=keep).weights, whole) < 1e-4


def test_a_layer_learns_from_its_images():
    mixer, *_ = fast()
    start = mixer.weights
    one, three = (settled(ONE_BY_ONE, steps=steps).weights for steps in (1, 3))
    assert relative(one, start) > 1e-3 and relative(three, one) > 1e-3
    # every column keeps its norm, so that no scene grows without bound
    assert relative(three[0].norm(dim=-2), start[0].norm(dim=-2)) < 1e-3


def test_ranks_add_their_gradients():
    """Two ranks with the same images have twice the gradient, which Newton-Schulz normalises."""

    class Two(Alone):
        asked = 0

        def total(self, value):
            self.asked += 1
            return value.mul_(2)

    group = Two()
    assert relative(settled(ONE_BY_ONE, group=group).weights, settled(ONE_BY_ONE).weights) < 1e-3
    assert group.asked == 3  # once a step


def test_settling_can_be_cancelled_between_chunks():
    count = []
    progress = Progress(cancelled=lambda: count.append(1) or len(count) == 2)
    with pytest.raises(Cancelled):
        settled(ONE_BY_ONE, progress=progress)
    assert len(count) == 2


@pytest.mark.parametrize("parts", [ONE_BY_ONE, [slice(0, 3), slice(3, 4)]])
def test_softmax_sees_all_images_whatever_the_chunks(parts):
    def finished(parts):
        block, layout, x, tokens = setting("softmax")
        scratch = Scratch(CPU, torch.float32)
        mixer = SoftmaxMixer(block, IMAGES, HEADS, layout, scratch, Alone(), Progress())
        for part in parts:
            mixer.absorb(part, x[part].clone())
        mixer.settle(tokens, parts)
        return torch.cat([mixer.finish(x[part].clone()) for part in parts])

    assert relative(finished(parts), finished([slice(0, IMAGES)])) < 1e-5
