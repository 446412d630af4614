"""MCDM's equations, each against a direct computation in numpy."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from magictalk.errors import OptionError
from magictalk.render.diffusion.archive import ArchivedClip, FrameAlignedAttention
from magictalk.render.diffusion.memory import FastAttention, MemoryTemporalAttention, MotionMemory, orthogonal


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def exact(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Attention as equation 2 has it."""
    logits = q @ k.T / np.sqrt(q.shape[-1])
    weights = np.exp(logits - logits.max(1, keepdims=True))
    return weights / weights.sum(1, keepdims=True) @ v


@pytest.mark.parametrize("heads", [1, 3])
def test_frame_aligned_attention_is_equations_1_and_2(heads: int) -> None:
    torch.manual_seed(0)
    layer = FrameAlignedAttention(width=12, queries=5, heads=heads)
    f_x, f_a = draw(2, 9, 12), draw(2, 3, 9, 12, seed=1)
    with torch.inference_mode():
        found = layer(f_x, f_a).numpy()
    assert found.shape == (2, 3, 5, 12)
    w_k, w_v, q = (p.detach().numpy() for p in (layer.to_k.weight.T, layer.to_v.weight.T, layer.queries))
    for b in range(2):
        for i in range(3):
            k, v = f_x[b].numpy() @ w_k, f_a[b, i].numpy() @ w_v
            parts = [exact(*(np.split(x, heads, 1)[head] for x in (q, k, v))) for head in range(heads)]
            assert np.allclose(found[b, i], np.concatenate(parts, 1), atol=1e-5)


def test_queries_begin_by_reading_the_whole_picture_a_part_each() -> None:
    torch.manual_seed(0)
    places = torch.randn(16, 4 * 96)
    layer = FrameAlignedAttention(4 * 96, queries=4, heads=4, places=places)
    torch.nn.init.eye_(layer.to_v.weight)
    shown = torch.arange(16.0)[None, None, :, None].expand(1, 1, 16, 4 * 96)  # each place its number
    with torch.inference_mode():
        read = layer(places[None], shown)[0, 0].reshape(4, 4, 96).mean(2)
    assert sorted(read.round().flatten().tolist()) == list(range(16))
    corners = [{0, 1, 4, 5}, {2, 3, 6, 7}, {8, 9, 12, 13}, {10, 11, 14, 15}]
    assert [set(row.round().int().tolist()) for row in read] == corners


def test_an_archived_frame_gives_its_own_tokens_only() -> None:
    torch.manual_seed(0)
    prior = ArchivedClip(latent_channels=4, patch=2, width=16, queries=16, tokens=16)
    reference, archive = draw(1, 4, 8, 8), draw(1, 5, 4, 8, 8, seed=1)
    changed = archive.clone()
    changed[:, 2] += 1
    with torch.inference_mode():
        a, b = prior(reference, archive), prior(reference, changed)
    assert a.shape == (1, 5, 16, 16)
    assert [torch.allclose(a[:, i], b[:, i]) for i in range(5)] == [True, True, False, True, True]
    assert prior.reference(reference).shape == (1, 16, 16)  # m = 4 x 4 patches
    assert ArchivedClip().reference(draw(1, 4, 64, 64)).shape == (1, 256, 768)  # the paper's, at 512 pixels


@given(st.floats(0, 1), st.integers(1, 12), st.integers(0, 11))
def test_the_memory_is_equations_4_and_5_whole_or_in_pieces(alpha: float, frames: int, cut: int) -> None:
    features = draw(2, frames, 3)
    expected = np.empty((2, frames, 3))
    for f in range(frames):
        now = features[:, f].numpy()
        expected[:, f] = now if f == 0 else alpha * expected[:, f - 1] + (1 - alpha) * now
    whole = MotionMemory(alpha)
    assert np.allclose(whole(features).numpy(), expected, atol=1e-5)
    pieces, cut = MotionMemory(alpha), min(cut, frames)
    parts = [pieces(part) for part in (features[:, :cut], features[:, cut:]) if part.shape[1]]
    assert np.allclose(torch.cat(parts, 1).numpy(), expected, atol=1e-5)
    assert torch.equal(pieces.state, whole.state)  # type: ignore[arg-type]


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_bad_alphas(alpha: float) -> None:
    with pytest.raises(OptionError, match="expected 0 to 1"):
        MotionMemory(alpha)


def test_favor_nears_exact_attention_as_features_grow() -> None:
    q, k, v = (0.7 * draw(20, 16, seed=s) for s in range(3))
    wanted = exact(q.numpy(), k.numpy(), v.numpy())
    errors = []
    for features in (16, 64, 256, 1024):
        each = [np.abs(FastAttention(16, features, seed)(q, k, v).numpy() - wanted).mean() for seed in range(24)]
        errors.append(np.mean(each))
    assert all(a > 1.4 * b for a, b in pairwise(errors)), errors  # by the square root of four


def test_favors_kernel_is_unbiased() -> None:
    """Over seeds its mean is ``exp(q k / sqrt(d))``."""
    q, k = 0.7 * draw(6, 8), 0.7 * draw(6, 8, seed=1)
    scale = 8**-0.25
    kernels = []
    for seed in range(400):
        w = orthogonal(32, 8, torch.Generator().manual_seed(seed))
        phi = [((x * scale) @ w.T - (x * scale).square().sum(-1, keepdim=True) / 2).exp() for x in (q, k)]
        kernels.append((phi[0] @ phi[1].T / 32).numpy())
    mean, error = np.mean(kernels, 0), np.std(kernels, 0) / np.sqrt(len(kernels))
    wanted = np.exp(q.numpy() @ k.numpy().T / np.sqrt(8))
    assert np.abs((mean - wanted) / error).max() < 4.5


def test_features_are_orthogonal_and_of_natural_length() -> None:
    w = orthogonal(24, 8, torch.Generator().manual_seed(0))
    for block in w.split(8):
        unit = block / block.norm(dim=1, keepdim=True)
        assert torch.allclose(unit @ unit.T, torch.eye(8), atol=1e-5)
    many = orthogonal(4000, 8, torch.Generator().manual_seed(1)).square().sum(1)
    assert float(many.mean()) == pytest.approx(8, rel=0.05) and float(many.var()) == pytest.approx(16, rel=0.1)


def test_favor_stays_finite_where_a_plain_exponential_would_not() -> None:
    q, k, v = 60 * draw(4, 16), 60 * draw(4, 16, seed=1), draw(4, 16, seed=2)
    assert FastAttention(16, 64)(q, k, v).isfinite().all()


def test_the_present_attends_to_memory_and_gives_its_own_half() -> None:
    torch.manual_seed(0)
    layer = MemoryTemporalAttention(16, heads=2, features=512)
    present, memory = draw(1, 4, 16), draw(1, 3, 16, seed=1)
    with torch.inference_mode():
        found = layer(present, memory)
        joined = torch.cat([memory, present], 1)[0]
        q, k, v = (part(joined).numpy() for part in (layer.to_q, layer.to_k, layer.to_v))
        heads = [exact(q[:, h], k[:, h], v[:, h]) for h in (slice(0, 8), slice(8, 16))]
        expected = layer.to_out(torch.from_numpy(np.concatenate(heads, 1)))[3:]
    assert found.shape == (1, 4, 16)
    assert float((found[0] - expected).abs().mean()) < 0.02 < 0.1 < float(expected.abs().mean())
    assert not torch.allclose(found, layer(present, memory.flip(-1)), atol=1e-3)


def test_few_frames_are_attended_to_as_many_are() -> None:
    """Products are taken in whichever order is shorter."""
    attention = FastAttention(8, features=16)
    q, k, v = (draw(2, 300, 8, seed=seed) for seed in range(3))
    assert torch.allclose(attention(q, k, v)[:, :3], attention(q[:, :3], k, v), atol=1e-5)
