"""The variational motion generator: a face's key points from speech (MAGIC-Talk, section 3.2, after GeneFace++).

A variational autoencoder of dilated convolutions makes deviations of key points from the mean mesh out of what is heard
and of latents that a flow, led by the same sound, draws (Ye et al. 2023, arXiv 2305.00787, section 3.2). The mesh is
the rig's, so that deviations become ARKit coefficients again by bounded least squares, and with them any face moves.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import tee
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from numpy.typing import NDArray
from torch import Tensor, nn

from magictalk import weights
from magictalk.audio.fronts import FRAME_SAMPLES, HUBERT, Front, FrontName, HubertFront, LogMelFront, load_hubert
from magictalk.drive.audio2bs import OPENERS, RestGate
from magictalk.drive.idle import LARGEST_SEED, IdleDrive
from magictalk.drive.mix import aligned
from magictalk.errors import OptionError, WeightsError
from magictalk.face.rig import (
    LOWER_INNER_LIP,
    LOWER_OUTER_LIP,
    SEAM,
    UPPER_INNER_LIP,
    UPPER_OUTER_LIP,
    Rig,
    point_weights,
)
from magictalk.metrics.functional.landmarks import IBUG_68
from magictalk.motion import ARKIT, GROUPS, Motion

if TYPE_CHECKING:
    from magictalk.speech import Speech

KEY_POINTS = tuple(
    sorted({*IBUG_68, *UPPER_INNER_LIP, *LOWER_INNER_LIP, *UPPER_OUTER_LIP, *LOWER_OUTER_LIP, 1})
)  # 1: the nose's tip
"""Mesh points that the generator moves: the 68 of iBUG's annotation, both edges of the lips, the nose's tip."""
PARTS = (*GROUPS["lips"], *GROUPS["brows"], *GROUPS["cheeks"])
"""Places in ``ARKIT`` of the coefficients that move them; lids and gaze have a drive of their own."""
LIPS = len(GROUPS["lips"])
"""How many of ``PARTS``, the first ones, are lips."""

CHUNK_FRAMES = 48
"""Frames made at once; whole latents of them."""
TEMPERATURE = 0.5
"""Of the latents' noise, by default; chosen on ``val``."""
MOST_TEMPERATURE = 2.0


class _Waves(nn.Module):
    """Gated dilated convolutions (van den Oord et al. 2016, section 2.3), which look both ways: ``[B, C, T]``.

    Layer ``i`` reaches ``2^i`` steps to either side.
    """

    def __init__(self, given: int, made: int, hidden: int, condition: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.first = nn.Conv1d(given, hidden, 1)
        self.gates = nn.ModuleList(nn.Conv1d(hidden, 2 * hidden, 3, padding=2**i, dilation=2**i) for i in range(layers))
        self.conditions = nn.ModuleList(
            nn.Conv1d(condition, 2 * hidden, 1, bias=False) for _ in range(layers if condition else 0)
        )
        self.mixes = nn.ModuleList(nn.Conv1d(hidden, 2 * hidden, 1) for _ in range(layers))
        self.dropout = nn.Dropout(dropout)
        self.last = nn.Conv1d(hidden, made, 1)
        self.reach = 2**layers - 1

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        x = self.first(x)
        skipped = torch.zeros_like(x)
        for i, (gate, mix) in enumerate(zip(self.gates, self.mixes, strict=True)):
            both = gate(self.dropout(x))
            if condition is not None:
                both = both + self.conditions[i](condition)
            a, b = both.chunk(2, 1)
            residue, skip = mix(torch.tanh(a) * torch.sigmoid(b)).chunk(2, 1)
            x, skipped = (x + residue) / 2**0.5, skipped + skip
        return self.last(nn.functional.gelu(skipped))


class _Coupling(nn.Module):
    """Half of the latents shifted by what the other half and the sound say (Dinh et al. 2014); volume stays."""

    def __init__(self, latent: int, hidden: int, condition: int) -> None:
        super().__init__()
        self.shift = _Waves(latent // 2, latent - latent // 2, hidden, condition, 1, 0.0)
        nn.init.zeros_(self.shift.last.weight)
        nn.init.zeros_(self.shift.last.bias)  # type: ignore[arg-type]

    def forward(self, z: Tensor, condition: Tensor, sign: float) -> Tensor:
        kept, moved = z.split((self.shift.first.in_channels, self.shift.last.out_channels), 1)
        return torch.cat([kept, moved + sign * self.shift(kept, condition)], 1)


class _Flow(nn.Module):
    """Latents to noise and back, led by the sound; both ``[B, Z, L]``."""

    def __init__(self, latent: int, hidden: int, condition: int, couplings: int) -> None:
        super().__init__()
        self.couplings = nn.ModuleList(_Coupling(latent, hidden, condition) for _ in range(couplings))
        self.reach = couplings

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        """Noise of latents."""
        for coupling in self.couplings:
            z = coupling(z, condition, 1.0).flip(1)
        return z

    def inverse(self, noise: Tensor, condition: Tensor) -> Tensor:
        """Latents of noise."""
        for coupling in reversed(self.couplings):
            noise = coupling(noise.flip(1), condition, -1.0)
        return noise


class VariationalMotion(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Key points from sound, by a variational autoencoder with a flow prior (GeneFace++, section 3.2).

    Of deviations ``x`` and sound ``c`` training makes the most of

        log p(x | c)  >=  E_q(z | x, c) [ log p(x | z, c) ] - KL( q(z | x, c) || p(z | c) )

    where ``q`` is normal with mean ``m`` and deviation ``s``, and the prior is a standard normal behind a flow ``f``
    that keeps volumes, ``p(z | c) = N(f(z, c); 0, 1)``. Of the divergence everything is exact but for one draw
    ``z = m + s e``:

        KL  =  sum of ( f(z, c)^2 - 1 - log s^2 ) / 2

    As in a 3DMM faces are sums of a few directions (``basis``), so that whatever comes out is one. A latent stands for
    ``stride`` frames. All networks are convolutions: :attr:`context` frames on either side are all that a frame depends
    on, so pieces of any length join without seams.

    Args:
        front: what it has learnt to listen to.
        features: numbers a frame of that.
        points: key points.
        components: how many directions a face's key points move in; ``basis`` holds them, each of one deviation's size.
        hidden: width of all convolutions.
        latent: numbers a latent.
        stride: frames a latent, even.
        layers: gated convolutions of the ear, the encoder and the decoder each.
        couplings: of the flow.
        dropout: in training.
    """

    @register_to_config
    def __init__(
        self,
        front: FrontName = "log-mel",
        features: int = LogMelFront.width,
        points: int = len(KEY_POINTS),
        components: int = 24,
        hidden: int = 96,
        latent: int = 16,
        stride: int = 4,
        layers: int = 4,
        couplings: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.mean: Tensor
        self.basis: Tensor
        self.register_buffer("mean", torch.zeros(points, 3))
        self.register_buffer("basis", torch.eye(components, 3 * points).unflatten(1, (points, 3)))
        window = 2 * stride, stride, stride // 2
        self.ear = _Waves(features, hidden, hidden, 0, layers, dropout)
        self.slow = nn.Conv1d(hidden, hidden, *window)
        self.shorten = nn.Conv1d(components, hidden, *window)
        self.encoder = _Waves(hidden, 2 * latent, hidden, hidden, layers, dropout)
        self.flow = _Flow(latent, hidden // 2, hidden, couplings)
        self.lengthen = nn.ConvTranspose1d(latent, hidden, *window)
        self.decoder = _Waves(hidden, components, hidden, hidden, layers, dropout)

    @property
    def context(self) -> int:
        """Frames on either side beyond which nothing is heard, whole latents of them."""
        stride = int(self.config["stride"])
        windows = 2 * stride - 1  # of `slow` and `lengthen`, one after the other
        reach = self.ear.reach + self.decoder.reach + self.flow.reach * stride + windows
        return -(-reach // stride) * stride

    def hear(self, rows: Tensor) -> Tensor:
        """Rows of a front ``[B, T, features]`` to what leads all else ``[B, hidden, T]``; ``T`` whole latents."""
        heard: Tensor = self.ear(rows.mT)
        return heard

    def posterior(self, deviations: Tensor, heard: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the deviation ``[B, Z, L]`` of q(z | x, c), from ``x [B, T, K, 3]``."""
        mean, spread = self.encoder(self.shorten(self.components(deviations).mT), self.slow(heard)).chunk(2, 1)
        return mean, spread.clamp(-6, 3)

    def prior(self, noise: Tensor, heard: Tensor) -> Tensor:
        """Latents ``[B, Z, L]`` of p(z | c) from noise ``[B, Z, L]``."""
        latents: Tensor = self.flow.inverse(noise, self.slow(heard))
        return latents

    def decode(self, latents: Tensor, heard: Tensor) -> Tensor:
        """Deviations ``[B, T, K, 3]`` in face space, the mean of p(x | z, c)."""
        components = self.decoder(self.lengthen(latents), heard).mT
        return torch.einsum("btc,cpd->btpd", components, self.basis) + self.mean

    def components(self, deviations: Tensor) -> Tensor:
        """Deviations ``[..., K, 3]`` along the basis ``[..., C]``, in standard deviations."""
        basis = self.basis.flatten(1)  # orthogonal
        return (deviations - self.mean).flatten(-2) @ (basis / (basis**2).sum(1, keepdim=True)).mT

    def forward(self, rows: Tensor, deviations: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What training needs of rows ``[B, T, features]`` and real deviations ``[B, T, K, 3]``.

        Returns:
            Deviations by way of the posterior, the estimate of the divergence in nats ``[B, Z, L]``, and deviations by
            way of the prior: the likeliest, of no noise, and a draw.
        """
        heard = self.hear(rows)
        mean, spread = self.posterior(deviations, heard)
        latents = mean + spread.exp() * torch.randn_like(mean)
        noise = self.flow(latents, self.slow(heard))
        likeliest, drawn = (
            self.decode(self.prior(e, heard), heard) for e in (torch.zeros_like(mean), torch.randn_like(mean))
        )
        return self.decode(latents, heard), 0.5 * (noise**2 - 1) - spread, likeliest, drawn

    def sample(self, rows: Tensor, noise: Tensor) -> Tensor:
        """Deviations ``[B, T, K, 3]`` from rows ``[B, T, features]`` and the prior's noise ``[B, Z, T / stride]``."""
        heard = self.hear(rows)
        return self.decode(self.prior(noise, heard), heard)


class PointFit:
    """Deviations of the key points of the rig's mean face to the coefficients of ``PARTS`` and back.

    Points count as in the rig's own fit, and whether the lips meet counts by itself.

    Attributes:
        linear: float32 ``[3 K, 38]``, the least squares without bounds, for losses to flow through.
    """

    L1, L2 = 2e-4, 1e-3
    """Costs of coefficients and of their squares, beside squares of the mean shape's size."""
    STEPS = 120

    def __init__(self, rig: Rig) -> None:
        shapes = rig.shapes[list(PARTS)][:, list(KEY_POINTS)].astype(np.float64)
        self.shapes = shapes.astype(np.float32)
        self._weights = np.sqrt(point_weights()[list(KEY_POINTS)])
        place = {point: i for i, point in enumerate(KEY_POINTS)}
        self._upper = [place[point] for point in UPPER_INNER_LIP[1:-1]]
        self._lower = [place[point] for point in LOWER_INNER_LIP]
        rows = self._weigh(shapes)
        energy = (rows**2).sum(1).mean()
        products = rows @ rows.T / energy
        self._pull = rows.T / energy
        self._rho = 0.05
        self._ridge = products + self.L2 * np.eye(len(PARTS))
        self._step = np.linalg.inv(self._ridge + self._rho * np.eye(len(PARTS)))
        units = np.eye(3 * len(KEY_POINTS)).reshape(-1, len(KEY_POINTS), 3)
        self.linear = (self._weigh(units) @ self._pull @ np.linalg.inv(self._ridge)).astype(np.float32)

    def _weigh(self, field: NDArray[np.float64]) -> NDArray[np.float64]:
        """Displacements ``[..., K, 3]`` as rows whose squares a fit sums."""
        seams = (field[..., self._upper, :] - field[..., self._lower, :]) * np.sqrt(SEAM) * [1.0, 1.0, np.sqrt(0.15)]
        return np.concatenate([field * self._weights, seams], -2).reshape(*field.shape[:-2], -1)

    def deviations(self, coefficients: NDArray[np.float32]) -> NDArray[np.float32]:
        """``[T, K, 3]`` of coefficients ``[T, 38]``."""
        return np.tensordot(coefficients, self.shapes, 1).astype(np.float32)

    def coefficients(self, deviations: NDArray[np.float32]) -> NDArray[np.float32]:
        """Coefficients ``[T, 38]``, 0..1, nearest to ``[T, K, 3]``, frame by frame.

        Bounded least squares by ADMM (Boyd et al. 2011, section 5.2).
        """
        target = self._weigh(deviations.astype(np.float64)) @ self._pull - self.L1
        kept = np.clip(target @ np.linalg.inv(self._ridge), 0, 1)
        dual = np.zeros_like(kept)
        for _ in range(self.STEPS):
            step = (target + self._rho * (kept - dual)) @ self._step
            kept = np.clip(step + dual, 0, 1)
            dual += step - kept
        return kept.astype(np.float32)


class VariationalDrive:
    """Speech to motion: lips, cheeks and brows by the generator, the rest by the idle drive; two seconds at a time.

    Args:
        network: see :class:`VariationalMotion`.
        hubert: the model of :func:`load_hubert`, for networks that learnt to listen to it.
        seed: 0 to 2^32 - 1; of the latents and of the idle drive.
        temperature: of the latents' noise, 0 (the likeliest) to 2; lively lips against sure ones.

    Raises:
        OptionError: when an option is out of its range.
        WeightsError: when the network listens to HuBERT, and there is none, or one of another width.
    """

    def __init__(
        self, network: VariationalMotion, hubert: Any = None, *, seed: int = 0, temperature: float = TEMPERATURE
    ) -> None:
        if not 0 <= seed <= LARGEST_SEED:
            raise OptionError(f"seed is {seed}; expected 0 to {LARGEST_SEED}")
        if not 0 <= temperature <= MOST_TEMPERATURE:
            raise OptionError(f"temperature is {temperature:g}; expected 0 to {MOST_TEMPERATURE:g}")
        if network.config["front"] == "hubert":
            width = 0 if hubert is None else hubert.config.hidden_size
            if width != network.config["features"]:
                raise WeightsError(
                    f"the generator listens to a HuBERT of width {network.config['features']}; got {width or 'none'}"
                )
        self.network, self.hubert = network.eval(), hubert
        self.seed, self.temperature = seed, temperature
        self.fit = PointFit(Rig.load())

    @classmethod
    def load(
        cls, name: str | Path = "variational", *, hubert: str | Path = HUBERT, seed: int = 0,
        temperature: float = TEMPERATURE,
    ) -> VariationalDrive:  # fmt: skip
        """The drive with weights of this name, folder or hub id; errors as in :mod:`magictalk.weights`.

        HuBERT is looked for only if the weights learnt to listen to it.
        """
        network = weights.load(VariationalMotion, name)
        ear = load_hubert(hubert) if network.config["front"] == "hubert" else None
        return cls(network, ear, seed=seed, temperature=temperature)

    def __call__(self, speech: Speech) -> Iterator[Motion]:
        """Motion in chunks of at most 50 frames; the total follows the sound exactly."""
        return self.stream(speech.chunks())

    def stream(self, chunks: Iterator[NDArray[np.float32]]) -> Iterator[Motion]:
        """As ``__call__``, from float32 pieces ``[N]`` at 16 kHz of any sizes."""
        one, other = tee(chunks)  # what one has read and the other not is a few seconds of sound
        for face, rest in aligned(self._faces(one), IdleDrive(self.seed).stream(other)):
            yield rest.take(face, "lips", "brows", "cheeks")

    def deviations(self, chunks: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        """Deviations of ``KEY_POINTS`` from the mean mesh ``[T, K, 3]`` in face space, 48 frames or fewer at a time."""
        for deviations, _ in self._windows(chunks):
            yield deviations

    def _faces(self, chunks: Iterator[NDArray[np.float32]]) -> Iterator[Motion]:
        # in a pause lips meet, but keep half of their shape: people do not fall back to a blank face
        resting = np.where(OPENERS, 0.0, 0.5).astype(np.float32)
        for deviations, speaking in self._windows(chunks):
            found = self.fit.coefficients(deviations)
            found[:, :LIPS] *= resting + speaking[:, None] * (1 - resting)
            coefficients = np.zeros((len(found), len(ARKIT)), np.float32)
            coefficients[:, list(PARTS)] = found
            yield Motion(coefficients)

    def _windows(
        self, chunks: Iterator[NDArray[np.float32]]
    ) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Deviations ``[T, K, 3]`` and whether anyone speaks ``[T]``."""
        front: Front = LogMelFront() if self.hubert is None else HubertFront(self.hubert)
        gate, context = RestGate(), self.network.context
        rows = np.tile(front.silence, (context, 1))  # from `context` frames before `start` on
        samples = start = 0
        for piece in chunks:
            samples += len(piece)
            gate.push(piece)
            rows = np.concatenate([rows, front.push(piece)])
            while len(rows) >= CHUNK_FRAMES + 2 * context:
                yield self._window(rows, start), gate.take(CHUNK_FRAMES)
                rows, start = rows[CHUNK_FRAMES:], start + CHUNK_FRAMES
        rows = np.concatenate([rows, front.finish()])
        total = round(samples / FRAME_SAMPLES)
        while start < total:
            frames = min(CHUNK_FRAMES, total - start)
            missing = max(0, CHUNK_FRAMES + 2 * context - len(rows))
            rows = np.concatenate([rows, np.tile(front.silence, (missing, 1))])
            yield self._window(rows, start)[:frames], gate.take(frames)
            rows, start = rows[CHUNK_FRAMES:], start + CHUNK_FRAMES

    def _window(self, rows: NDArray[np.float32], start: int) -> NDArray[np.float32]:
        """Deviations ``[48, K, 3]`` from frame ``start`` on, of rows with context on either side of them."""
        network, context = self.network, self.network.context
        stride, width = network.config["stride"], network.config["latent"]
        length = CHUNK_FRAMES + 2 * context
        noise = self.temperature * _noise(self.seed, start // stride, length // stride, width)
        with torch.inference_mode():
            made = network.sample(torch.from_numpy(rows[:length])[None], torch.from_numpy(noise)[None])
        return np.asarray(made[0, context : context + CHUNK_FRAMES].numpy(), np.float32)


def _noise(seed: int, first: int, count: int, width: int) -> NDArray[np.float32]:
    """Noise ``[width, count]`` that is the same for the same latent, whatever window asks for it."""
    rows = [np.random.default_rng([seed, i]).standard_normal(width, np.float32) for i in range(first, first + count)]
    return np.stack(rows, 1)
