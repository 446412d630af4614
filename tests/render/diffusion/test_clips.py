"""MCDM's network: what leads a clip, and what is carried to the next."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from magictalk.render.diffusion.attention import ObservedAttention, cross_attentions
from magictalk.render.diffusion.clips import ClipNet, MemoryLayer, PlainLayer
from magictalk.render.diffusion.memory import ALPHA
from magictalk.render.diffusion.reference import ReferenceNet

N = 4
TINY: dict[str, Any] = {"channels": (16, 32), "layers": 1, "heads": 2, "width": 12, "groups": 8, "fold": 2}


@pytest.fixture(scope="module")
def network() -> ClipNet:
    torch.manual_seed(0)
    made = ClipNet(**TINY, velocity=True, token=5, queries=3, patch=2, tokens=16, features=32).eval()
    for _, layer in made.memory_layers():  # as after some training
        torch.nn.init.normal_(layer.attention.to_out.weight, std=0.3)
    return led(made)


def led(network: ClipNet) -> ClipNet:
    """As after some training of the present-clip reference attention."""
    for layer in cross_attentions(network.unet).values():
        torch.nn.init.normal_(layer.to_v.weight, std=0.3)  # type: ignore[union-attr]
    return network


@pytest.fixture
def given() -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(2)
    shapes = {"latents": (2, 4, N, 8, 8), "reference": (2, 4, 8, 8), "archive": (2, N, 4, 8, 8), "motion": (2, N, 3, 5)}
    return {name: torch.randn(*shape, generator=draw) for name, shape in shapes.items()}


def noise(network: ClipNet, given: dict[str, torch.Tensor], **others: Any) -> torch.Tensor:
    with torch.inference_mode():
        return network(**(given | {"timestep": 300} | others))[0]


def test_everything_leads(network: ClipNet, given: dict[str, torch.Tensor]) -> None:
    plain = noise(network, given)
    assert plain.shape == given["latents"].shape
    for name in ("reference", "archive", "motion"):
        assert not torch.allclose(noise(network, given, **{name: given[name].flip(-1)}), plain, atol=1e-4), name
    with pytest.raises(ValueError, match="3 archived frames for a clip of 4; expected as many"):
        noise(network, given, archive=given["archive"][:, :3])


def test_it_changes_nothing_in_time_before_training(given: dict[str, torch.Tensor]) -> None:
    """Frames of a fresh network do not know of one another, nor of motion."""
    torch.manual_seed(0)
    fresh = ClipNet(**TINY, token=5, queries=3, patch=2, tokens=16, features=32).eval()
    other = given["motion"].clone()
    other[:, 2] += 1
    assert torch.equal(noise(fresh, given), noise(fresh, given, motion=other))
    plain = noise(led(fresh), given)
    differs = (noise(fresh, given, motion=other) - plain).abs().amax((0, 1, 3, 4)) > 1e-5
    assert differs.tolist() == [False, False, True, False]


def test_the_memory_after_a_clip_is_equations_4_and_5(network: ClipNet, given: dict[str, torch.Tensor]) -> None:
    """Against a direct computation from what the archived reference attention gave."""
    with torch.inference_mode():
        _, first = network(**given, timestep=300)
        found = {name: _archived(layer) for name, layer in network.memory_layers()}
        _, second = network(**given, timestep=300, memory=first, alpha=0.4)
    assert set(first) == set(second) == set(found) and len(found) == 3  # down, and twice up
    for name, features in found.items():
        memory = features[:, 0]
        for f in range(1, N):
            memory = ALPHA * memory + (1 - ALPHA) * features[:, f]
        assert np.allclose(first[name].numpy(), memory, atol=1e-5)
    name = next(iter(found))  # the first layer sees the same both times
    memory = first[name].numpy()
    for f in range(N):
        memory = 0.4 * memory + 0.6 * found[name][:, f]
    assert np.allclose(second[name].numpy(), memory, atol=1e-5)


def _archived(layer: MemoryLayer) -> np.ndarray:
    features = layer._observed[0].found["archived"].unflatten(0, (2, N))  # [B, N, S, C]
    return features.transpose(1, 2).flatten(0, 1).numpy().copy()


def test_what_is_remembered_counts_in_the_next_clip(network: ClipNet, given: dict[str, torch.Tensor]) -> None:
    with torch.inference_mode():
        plain, memory = network(**given, timestep=300, alpha=0.0)
        shifted = {name: value.flip(-1) for name, value in memory.items()}
        one, other = (network(**given, timestep=300, memory=m, alpha=0.9)[0] for m in (memory, shifted))
        blind = network(**given, timestep=300, memory=shifted, alpha=0.0)[0]
    assert not torch.allclose(one, other, atol=1e-4) and torch.allclose(blind, plain, atol=1e-5)


def test_ablations_lack_what_they_say(given: dict[str, torch.Tensor]) -> None:
    other = given["archive"].flip(-1)
    for archived, reads in (("none", False), ("unet", False), ("q-former", True), ("aligned", True)):
        torch.manual_seed(0)
        made = ClipNet(**TINY, token=5, archived=archived, queries=4, patch=2, tokens=16, features=32).eval()
        for layer in cross_attentions(made.unet).values():
            for name in layer.processor.to_v:  # type: ignore[union-attr]
                torch.nn.init.normal_(layer.processor.to_v[name].weight, std=1.0)  # type: ignore[union-attr]
        assert torch.equal(noise(made, given), noise(made, given, archive=other)) != reads, archived
        turned = noise(made, given, reference=given["reference"].flip(-1))
        assert torch.equal(noise(made, given), turned) == (archived == "none"), archived


def test_plain_temporal_attention_knows_frames_and_remembers_nothing(given: dict[str, torch.Tensor]) -> None:
    torch.manual_seed(0)
    plain = led(ClipNet(**TINY, token=5, memory=False, patch=2, tokens=16).eval())
    assert not dict(plain.memory_layers())
    with torch.inference_mode():
        assert plain(**given, timestep=3)[1] == {}
    other = given["motion"].clone()
    other[:, 2] += 1
    before = noise(plain, given)
    differs = (noise(plain, given, motion=other) - before).abs().amax((0, 1, 3, 4)) > 1e-5
    assert differs.tolist() == [False, False, True, False]  # it begins by changing nothing
    for module in plain.unet.modules():
        if isinstance(module, PlainLayer):
            torch.nn.init.normal_(module.attention.to_out[0].weight, std=0.3)  # type: ignore[index,union-attr]
    differs = (noise(plain, given, motion=other) - noise(plain, given)).abs().amax((0, 1, 3, 4)) > 1e-5
    assert differs.all()


def test_it_begins_with_what_reference_net_knows(given: dict[str, torch.Tensor]) -> None:
    torch.manual_seed(1)
    reference = ReferenceNet(**TINY, identity_width=10, identity_tokens=2, frames=8, motion_heads=2)
    network = ClipNet(**TINY, token=5, patch=2, tokens=16)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.take(reference.state_dict())
    theirs = reference.state_dict()
    for name, value in network.state_dict().items():
        taken = name in theirs and not any(
            part in name for part in (".processor.", ".attn2.to_k.", ".attn2.to_v.", ".motion_modules.")
        )
        assert torch.equal(value, theirs[name] if taken else before[name]), name
    assert isinstance(next(iter(cross_attentions(network.unet).values())).processor, ObservedAttention)


def test_gradients_reach_all_of_it(network: ClipNet, given: dict[str, torch.Tensor]) -> None:
    fresh = ClipNet.from_config(network.config)
    fresh.load_state_dict(network.state_dict())
    fresh(**given, timestep=300)[0].square().mean().backward()
    assert [name for name, p in fresh.named_parameters() if p.grad is None] == []
