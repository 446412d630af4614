"""Decoupled cross-attention: keys and values of its own for each condition (MAGIC-Talk, 3.1 and equation 2).

One class serves every branch: text and identity in ReferenceNet, landmarks and contour in AnimateNet.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

Conditions = Mapping[str, tuple[Tensor, float]]
"""Tokens ``[B, L, D]`` of each condition and how much it counts, by name."""
Weights = Mapping[str, float]
"""How much each condition counts, by name; 1 where it is not named."""


class DecoupledAttention(nn.Module):
    """What a cross-attention layer does: ``Z = sum_i w_i softmax(Q K_i^T / sqrt(d)) V_i`` (equation 2).

    All conditions share the query. The first one's keys and values are the layer's own, so checkpoints of text-to-image
    networks fill them; each further condition brings its own, as IP-Adapter does it.

    Args:
        layer: whose processor this will be.
        first: name of the condition that the layer itself projects.
        others: names of the further conditions and the widths of their tokens.
        learned: the weights w_i are trained too, from 1 each; otherwise they are what the caller says.
    """

    def __init__(self, layer: Attention, first: str, others: Mapping[str, int], learned: bool = False) -> None:
        super().__init__()
        self.first = first
        self.to_k = nn.ModuleDict({name: nn.Linear(d, layer.inner_kv_dim, bias=False) for name, d in others.items()})
        self.to_v = nn.ModuleDict({name: nn.Linear(d, layer.inner_kv_dim, bias=False) for name, d in others.items()})
        names = [first, *others] if learned else []
        self.w = nn.ParameterDict({name: nn.Parameter(torch.ones(())) for name in names})

    def __call__(
        self, attn: Attention, hidden_states: Tensor, encoder_hidden_states: Conditions,
        attention_mask: Tensor | None = None, temb: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Attend from ``[B, S, C]`` to every condition; the names are those that diffusers calls processors with.

        Args:
            attn: the layer.
            hidden_states: ``[B, S, C]``.
            encoder_hidden_states: tokens of each condition, and its weight, times what is learned; those of weight 0
                are not computed.
            attention_mask: not used; conditions have no padding.
            temb: not used.
        """
        del attention_mask, temb
        query = attn.to_q(hidden_states)
        z = torch.zeros_like(query)
        for branch in self.branches(attn, query, encoder_hidden_states).values():
            z = z + branch
        for layer in attn.to_out:
            z = layer(z)
        return z

    def branches(self, attn: Attention, query: Tensor, conditions: Conditions) -> dict[str, Tensor]:
        """What each condition of a weight other than 0 gives, times its weight: ``[B, S, C]`` by name."""
        q, found = _heads(attn, query), {}
        for name, (tokens, weight) in conditions.items():
            if weight == 0:
                continue
            own = name == self.first
            k, v = (attn.to_k, attn.to_v) if own else (self.to_k[name], self.to_v[name])
            z = nn.functional.scaled_dot_product_attention(q, _heads(attn, k(tokens)), _heads(attn, v(tokens)))
            w = weight * self.w[name] if name in self.w else weight
            found[name] = w * z.transpose(1, 2).flatten(2)
        return found

    forward = __call__


class ObservedAttention(DecoupledAttention):
    """The same, whose branches can be looked at: what MCDM's temporal layers go on with (section 3.4).

    Attributes:
        found: the branches of the last call, by name.
    """

    def __init__(self, layer: Attention, first: str, others: Mapping[str, int], learned: bool = False) -> None:
        super().__init__(layer, first, others, learned)
        self.found: dict[str, Tensor] = {}

    def branches(self, attn: Attention, query: Tensor, conditions: Conditions) -> dict[str, Tensor]:
        self.found = super().branches(attn, query, conditions)
        return self.found


def _heads(attn: Attention, x: Tensor) -> Tensor:
    """``[B, L, heads * d]`` to ``[B, heads, L, d]``."""
    return x.unflatten(2, (attn.heads, -1)).transpose(1, 2)


def cross_attentions(network: nn.Module) -> dict[str, Attention]:
    """The cross-attention layers of a network, by name, in its order."""
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, Attention) and module.is_cross_attention
    }


def decouple(
    network: nn.Module, first: str, others: Mapping[str, int], learned: bool = False,
    kind: type[DecoupledAttention] = DecoupledAttention,
) -> None:  # fmt: skip
    """Give every cross-attention layer of a network a :class:`DecoupledAttention`; arguments as there."""
    for layer in cross_attentions(network).values():
        layer.set_processor(cast(Any, kind(layer, first, others, learned)))
