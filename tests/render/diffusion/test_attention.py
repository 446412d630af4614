from __future__ import annotations

import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from magictalk.render.diffusion.attention import DecoupledAttention, cross_attentions, decouple


def layer(seed: int = 0, **options: int) -> Attention:
    torch.manual_seed(seed)
    return Attention(query_dim=12, cross_attention_dim=6, heads=3, dim_head=4, **options)


def by_hand(attn: Attention, x: torch.Tensor, branches: list[tuple[float, nn.Linear, nn.Linear, torch.Tensor]]):  # type: ignore[no-untyped-def]
    """Equation 2, one head and one branch after the other, in float64."""
    attn = attn.double()
    q = attn.to_q(x.double())
    z = torch.zeros_like(q)
    for w, to_k, to_v, tokens in branches:
        k, v = to_k.double()(tokens.double()), to_v.double()(tokens.double())
        for h in range(attn.heads):
            own = slice(4 * h, 4 * h + 4)
            z[..., own] += w * torch.softmax(q[..., own] @ k[..., own].mT / 2, -1) @ v[..., own]
    return attn.to_out[0](z)


@settings(deadline=None)
@given(st.integers(1, 3), st.integers(1, 7), st.lists(st.integers(1, 5), min_size=1, max_size=3), st.integers(0, 9))
def test_branches_are_weighed_and_summed(batch: int, queries: int, lengths: list[int], seed: int) -> None:
    attn = layer(seed)
    widths = {f"c{i}": 6 + i for i in range(1, len(lengths))}
    decouple(nn.ModuleList([attn]), "c0", widths)
    tokens = {f"c{i}": torch.randn(batch, n, 6 + i) for i, n in enumerate(lengths)}
    weights = {name: 0.3 + i for i, name in enumerate(tokens)}
    x = torch.randn(batch, queries, 12)
    made = attn(x, encoder_hidden_states={name: (tokens[name], weights[name]) for name in tokens})
    processor = attn.processor
    assert isinstance(processor, DecoupledAttention)
    branches = [
        (weights[name], processor.to_k[name] if name != "c0" else attn.to_k,
         processor.to_v[name] if name != "c0" else attn.to_v, tokens[name])
        for name in tokens
    ]  # fmt: skip
    assert torch.allclose(made.double(), by_hand(attn, x, branches), atol=1e-5)


def test_one_condition_is_plain_cross_attention() -> None:
    attn, x, tokens = layer(), torch.randn(2, 5, 12), torch.randn(2, 3, 6)
    attn.set_processor(AttnProcessor())
    plain = attn(x, encoder_hidden_states=tokens)
    decouple(nn.ModuleList([attn]), "text", {"identity": 4})
    made = [
        attn(x, encoder_hidden_states={"text": (tokens, 1.0), "identity": (torch.randn(2, 2, 4), w)}) for w in (0, 1.0)
    ]
    assert torch.allclose(made[0], plain, atol=1e-6)
    assert not torch.allclose(made[1], plain, atol=1e-3)


def test_learned_weights_begin_equal_and_learn() -> None:
    attn = layer()
    decouple(nn.ModuleList([attn]), "landmarks", {"contour": 6}, learned=True)
    processor = attn.processor
    assert isinstance(processor, DecoupledAttention)
    assert {name: w.item() for name, w in processor.w.items()} == {"landmarks": 1, "contour": 1}
    tokens = {"landmarks": (torch.randn(1, 3, 6), 1.0), "contour": (torch.randn(1, 3, 6), 0.5)}
    attn(torch.randn(1, 2, 12), encoder_hidden_states=tokens).sum().backward()
    assert all(w.grad is not None and w.grad != 0 for w in processor.w.values())


def test_all_weights_at_zero_leave_the_bias() -> None:
    attn = layer()
    decouple(nn.ModuleList([attn]), "text", {})
    made = attn(torch.randn(1, 2, 12), encoder_hidden_states={"text": (torch.randn(1, 3, 6), 0.0)})
    assert torch.allclose(made, attn.to_out[0].bias.expand(1, 2, -1))


def test_self_attention_is_left_alone() -> None:
    network = nn.ModuleDict({"self": Attention(query_dim=12, heads=3, dim_head=4), "cross": layer()})
    assert list(cross_attentions(network)) == ["cross"]


def test_unknown_conditions_are_an_error() -> None:
    attn = layer()
    decouple(nn.ModuleList([attn]), "text", {"identity": 6})
    with pytest.raises(KeyError, match="contour"):
        attn(torch.randn(1, 2, 12), encoder_hidden_states={"contour": (torch.randn(1, 3, 6), 1.0)})
