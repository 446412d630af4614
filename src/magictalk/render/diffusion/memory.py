"""Memory-efficient temporal attention: any history at the cost of one clip (MCDM, section 3.4).

What archived frames say is remembered as a running mean, and the present attends to it and to itself by FAVOR+
(Choromanski et al. 2020), whose cost grows with the number of frames and not with its square.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from magictalk.errors import OptionError

ALPHA = 0.1
EPSILON = 1e-6


class MotionMemory:
    """``M_1 = F_ac``, then ``M_f = alpha M_(f-1) + (1 - alpha) F_ac`` (equations 4 and 5).

    Args:
        alpha: 0 to 1; how much of the past is kept from frame to frame.

    Attributes:
        state: ``M`` of the last frame, to be carried to the next clip and kept on the disk; None before the first.

    Raises:
        OptionError: when alpha is not within 0 and 1.
    """

    def __init__(self, alpha: float = ALPHA) -> None:
        if not 0 <= alpha <= 1:
            raise OptionError(f"alpha is {alpha:g}; expected 0 to 1")
        self.alpha = alpha
        self.state: Tensor | None = None

    def __call__(self, features: Tensor) -> Tensor:
        """The memory ``[B, f, d]`` at each of the frames whose features ``[B, f, d]`` are, after what came before."""
        memory = []
        for now in features.unbind(1):
            self.state = now if self.state is None else self.alpha * self.state + (1 - self.alpha) * now
            memory.append(self.state)
        return torch.stack(memory, 1)


class FastAttention(nn.Module):
    """Softmax attention by positive orthogonal random features: FAVOR+ (Choromanski et al. 2020, section 2).

    ``exp(q k^T / sqrt(d))`` is the mean of ``phi(q) phi(k)^T`` over draws of the features, so

        ``out = phi(Q) (phi(K)^T V) / phi(Q) (phi(K)^T 1)``

    Args:
        width: d of a head.
        features: random features; more are nearer to exact attention.
        seed: of them; they are drawn once and belong to the weights.
    """

    def __init__(self, width: int, features: int = 128, seed: int = 0) -> None:
        super().__init__()
        self.register_buffer("w", orthogonal(features, width, torch.Generator().manual_seed(seed)))
        self.w: Tensor

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """``[..., f, d]`` of queries of that shape, and of keys and values ``[..., g, d]``."""
        (f, d), g, r = q.shape[-2:], k.shape[-2], len(self.w)
        scale = d**-0.25
        a, b = self._features(q * scale, dim=-1), self._features(k * scale, dim=(-2, -1))
        if f * g * (r + d) < (f + g) * r * d:  # of a short clip the square of its frames is less than its features
            weights = a @ b.mT
            return (weights @ v) / weights.sum(-1, keepdim=True)
        return (a @ (b.mT @ v)) / (a @ b.sum(-2)[..., None])

    def _features(self, x: Tensor, dim: int | tuple[int, ...]) -> Tensor:
        """``exp(w x - |x|^2 / 2)``, but for a factor that is the same along ``dim`` and cancels: none grows too large.

        What is added keeps the sum of them from nought.
        """
        exponent = nn.functional.linear(x.contiguous(), self.w) - x.square().sum(-1, keepdim=True) / 2
        return (exponent - exponent.amax(dim, keepdim=True).detach()).exp() + EPSILON


def orthogonal(rows: int, width: int, generator: torch.Generator) -> Tensor:
    """Gaussian vectors ``[rows, width]``, ``width`` at a time at right angles, each as long as it were by itself."""
    blocks = []
    for _ in range(0, rows, width):
        q, r = torch.linalg.qr(torch.randn(width, width, generator=generator))
        blocks.append((q * r.diagonal().sign()).mT)  # else the first numbers of q would all have one sign
    lengths = torch.randn(rows, width, generator=generator).norm(dim=1, keepdim=True)
    return torch.cat(blocks)[:rows] * lengths


class MemoryTemporalAttention(nn.Module):
    """Temporal attention of the present to itself and to what is remembered.

    Args:
        width: of the features.
        heads: of the attention.
        features: of FAVOR+.
        seed: of them.
    """

    def __init__(self, width: int, heads: int = 8, features: int = 128, seed: int = 0) -> None:
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.to_out = nn.Linear(width, width)
        self.attention = FastAttention(width // heads, features, seed)

    def forward(self, present: Tensor, memory: Tensor) -> Tensor:
        """``F_m [B, f, d]`` of ``F_pc [B, f, d]`` and ``M_f [B, g, d]``: the lower half, which is the present's."""
        joined = torch.cat([memory, present], 1)  # F_m^cat, along time; its upper half need not ask
        q, k, v = (
            layer(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for layer, x in ((self.to_q, present), (self.to_k, joined), (self.to_v, joined))
        )
        return self.to_out(self.attention(q, k, v).transpose(1, 2).flatten(2))  # type: ignore[no-any-return]
