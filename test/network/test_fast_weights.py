"""The fast weights learn what they are meant to learn, whatever way the tokens are split."""

import pytest
import torch
from tiny_network import one_thread, tiny_network  # noqa: F401

from vggt3_ros.network.fast_weights import (
    Associations,
    add_gradients,
    column_norms,
    objective,
    orthogonalise,
    read_out,
    stack_weights,
    take_step,
    unstack_weights,
)
from vggt3_ros.network.scratch import Scratch

HEADS, D, M = 4, 16, 64


def scratch():
    return Scratch(torch.device("cpu"), torch.float32)


def random_associations(tokens, seed=0):
    generator = torch.Generator().manual_seed(seed)
    keys, values = torch.randn(2, tokens, HEADS, D, generator=generator)
    rates = torch.rand(tokens, 3, HEADS, generator=generator) * 0.02
    return Associations(keys / keys.norm(dim=-1, keepdim=True), values, rates)


def random_weights(seed=1):
    generator = torch.Generator().manual_seed(seed)
    w0, w2 = torch.randn(2, HEADS, D, M, generator=generator) * D**-0.5
    w1 = torch.randn(HEADS, M, D, generator=generator) * M**-0.5
    return stack_weights(w0, w1, w2)


def gradients(weights, tokens):
    total = torch.zeros_like(weights)
    add_gradients(total, weights, tokens, scratch())
    return total


def test_gradient_formulas_equal_autograd():
    tokens, weights = random_associations(50), random_weights().requires_grad_()
    total = gradients(weights.detach(), tokens)
    for matrix in range(3):  # each matrix has a rate, and so an objective, of its own
        (expected,) = torch.autograd.grad(objective(weights, tokens)[matrix], weights)
        torch.testing.assert_close(total[matrix], expected[matrix], rtol=1e-4, atol=1e-6)


def test_fast_weights_after_two_chunks_equal_one():
    tokens, weights = random_associations(60), random_weights()
    halves = torch.zeros_like(weights)
    for part in (slice(0, 23), slice(23, 60)):
        chunk = Associations(tokens.keys[part], tokens.values[part], tokens.rates[part])
        add_gradients(halves, weights, chunk, scratch())
    norms = column_norms(weights)
    at_once = take_step(weights, gradients(weights, tokens), norms, 5)
    torch.testing.assert_close(
        take_step(weights, halves, norms, 5),
        at_once,
        rtol=0,
        atol=1e-5 * at_once.abs().max().item(),
    )


def test_the_gradient_does_not_depend_on_how_many_heads_fit_at_once(monkeypatch):
    tokens, weights = random_associations(40), random_weights()
    expected = gradients(weights, tokens)
    answer = read_out(weights, tokens.keys, scratch()).clone()
    monkeypatch.setattr("vggt3_ros.network.fast_weights._WORK_BYTES", {"cpu": 1})
    torch.testing.assert_close(gradients(weights, tokens), expected)
    torch.testing.assert_close(read_out(weights, tokens.keys, scratch()), answer)


def test_more_inner_steps_raise_the_inner_objective():
    tokens, weights = random_associations(2000), random_weights()
    norms = column_norms(weights)
    agreement = [objective(weights, tokens)]
    for _ in range(4):
        weights = take_step(weights, gradients(weights, tokens), norms, 5)
        agreement.append(objective(weights, tokens))
    assert (torch.stack(agreement).diff(dim=0) > 0).all(), agreement


def test_what_was_stored_is_recalled():
    """After the steps, the answer to a key points along its value far more than before."""
    tokens = random_associations(24)
    weights = random_weights()
    norms = column_norms(weights)

    def alignment(weights):
        answers = read_out(weights, tokens.keys, scratch())
        return torch.cosine_similarity(answers, tokens.values, dim=-1).mean().item()

    before = alignment(weights)
    for _ in range(10):
        weights = take_step(weights, gradients(weights, tokens), norms, 5)
    assert abs(before) < 0.2 and alignment(weights) > 0.5


def test_a_step_keeps_the_norm_of_every_column():
    weights = random_weights()
    norms = column_norms(weights)
    stepped = take_step(weights, gradients(weights, random_associations(30)), norms, 5)
    for before, after in zip(unstack_weights(weights), unstack_weights(stepped), strict=True):
        # dim 1: the input of x w
        torch.testing.assert_close(after.norm(dim=1), before.norm(dim=1), rtol=1e-4, atol=0)
    assert not torch.allclose(stepped, weights, atol=1e-2)


def test_newton_schulz_brings_singular_values_near_one():
    matrices = torch.randn(6, D, M, generator=torch.Generator().manual_seed(2)) * 1e-3
    values = torch.linalg.svdvals(orthogonalise(matrices, 5))
    assert values.min() > 0.6 and values.max() < 1.3  # the band Muon's coefficients are chosen for


def test_more_steps_of_a_map_change_the_scene_and_none_are_refused():
    network = tiny_network()
    images = torch.rand(2, 3, 28, 28, generator=torch.Generator().manual_seed(3))
    scenes = [network.map(images, inner_steps=steps)[1].fast_weights for steps in (1, 2, 3)]
    assert (scenes[0] - scenes[1]).abs().max() > 1e-3 and (
        scenes[1] - scenes[2]
    ).abs().max() > 1e-3
    with pytest.raises(ValueError, match="at least 1"):
        network.map(images, inner_steps=0)
