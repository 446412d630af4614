"""The present-clip motion prior: head, lips and expression by diffusion of tokens (MCDM, section 3.3).

What is heard and who is seen, joined by feature-wise linear modulation, lead the tokens of every frame; a driving
video's head may lead them too. Layers alternate between all modalities of the frames so far and each kind of token
along time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from numpy.typing import NDArray
from torch import Tensor, nn

from magictalk.audio.features import MELS, MELS_PER_FRAME, SILENCE
from magictalk.drive.audio2bs import LIPS, Audio2BSDrive
from magictalk.drive.emodiff import (
    LID_REACH,
    TIMESTEPS,
    VALUES,
    scheduler_for_sampling,
    scheduler_for_training,
    steady,
)
from magictalk.drive.idle import LARGEST_SEED
from magictalk.errors import OptionError
from magictalk.face.rig import lids_closed
from magictalk.motion import ARKIT, BLINK, GROUPS, Motion

if TYPE_CHECKING:
    from magictalk.speech import Speech

SHIPPED = "mcdm-tokens", "mcdm-prior"
"""Names of the trained networks in the package."""
HOP, CONTEXT = 48, 16
"""Frames that a window adds, and frames before them that it goes on from."""
STEPS = 10
"""Denoising steps that drives use by default."""
STREAMS: dict[str, tuple[int, ...]] = {
    "head": tuple(range(len(ARKIT), VALUES)),
    "lips": GROUPS["lips"],
    "expression": tuple(i for i in range(len(ARKIT)) if i not in GROUPS["lips"]),
}
"""Which numbers of a frame each kind of motion token holds; together they are all."""
HEAD, KINDS = 0, len(STREAMS)
SLOTS = ("step", "heard", "landmarks", *STREAMS)
"""A frame's tokens in the order in which they follow each other: what leads comes before what is led."""
SILENT = np.concatenate([np.full(MELS * MELS_PER_FRAME, SILENCE), np.zeros(len(LIPS) + 1)]).astype(np.float32)
"""What is heard of a frame of no sound: four of log-mel, lips, and that nobody speaks."""
GOES_ON = 12.0, 4.0, 4.0
"""Alpha of the progressive noise of each kind of token: about as fast as heads, lips and expressions move."""
LEARNT = tuple((alpha / math.hypot(1, alpha), 0.0) for alpha in GOES_ON)
"""Poles of that noise, of which training adds to heads, lips and expressions."""
BEGUN = (math.exp(-1 / 16), math.exp(-1 / 3)), *LEARNT[1:]
"""Of what sampling begins with. Heads have mass: in 16 frames they forget where they were, in 3 how they moved."""
TEMPERATURE = 1.1, 0.6, 1.1
"""How much noise heads, lips and expressions begin with: lips with little, so that they follow the sound."""
GIVES_WAY = 8.0
"""Frames in which a window goes over from where the one before left off to where it would have been by itself."""
USUAL_LIPS = 0.1
"""About how much a coefficient of lips moves."""


class MotionTokens(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Head, lip and expression encoders and their inverses, trained by themselves to give back what they are given.

    Args:
        width: numbers of a token.
        hidden: of the encoders and decoders.
    """

    @register_to_config
    def __init__(self, width: int = 32, hidden: int = 256) -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.zeros(VALUES))
        self.register_buffer("std", torch.ones(VALUES))
        self.encoders = nn.ModuleDict({name: _Two(len(own), hidden, width) for name, own in STREAMS.items()})
        self.decoders = nn.ModuleDict({name: _Two(width, hidden, len(own)) for name, own in STREAMS.items()})

    def encode(self, motion: Tensor) -> Tensor:
        """Tokens ``[..., 3, W]``, of numbers with a mean square of 1, of motion ``[..., 58]``."""
        given = (motion - self.mean) / self.std
        tokens = torch.stack([self.encoders[name](given[..., list(own)]) for name, own in STREAMS.items()], -2)
        return nn.functional.normalize(tokens, dim=-1) * tokens.shape[-1] ** 0.5

    def decode(self, tokens: Tensor) -> Tensor:
        """The inverse of :meth:`encode`."""
        motion = tokens.new_zeros(*tokens.shape[:-2], VALUES)
        for i, (name, own) in enumerate(STREAMS.items()):
            motion[..., list(own)] = self.decoders[name](tokens[..., i, :])
        return motion * self.std + self.mean

    def forward(self, motion: Tensor) -> Tensor:
        """Motion ``[..., 58]`` by way of its tokens."""
        return self.decode(self.encode(motion))


class _Two(nn.Sequential):
    """Two layers."""

    def __init__(self, given: int, hidden: int, wanted: int) -> None:
        super().__init__(nn.Linear(given, hidden), nn.GELU(), nn.Linear(hidden, wanted))


def rows_of(ear: Audio2BSDrive, chunks: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    """What is heard in pieces ``[N]`` at 16 kHz: rows ``[n, 350]``, which follow the sound exactly.

    Where the paper has wav2vec2, which learnt to hear before, this tier has log-mel and what our own network says that
    learnt to read lips from it: those lips, and whether somebody speaks.
    """
    for heard in ear.hear(chunks):
        mel = heard.mel.reshape(len(heard.lips), -1)
        yield np.concatenate([mel, heard.lips / USUAL_LIPS, heard.speaking[:, None]], 1).astype(np.float32)


def progressive(
    noise: Tensor, poles: Sequence[tuple[float, float]] = LEARNT, before: Tensor | None = None
) -> Tensor:  # fmt: skip
    """White noise ``[B, f, 3, W]`` to noise of the same variance in which each frame goes on from those before.

    As "progressive noise" of video diffusion (Ge et al. 2023, PYoCo): what a network leaves of it is seen as a motion
    that is a little off, not as one that trembles.

    Args:
        noise: white; its spread may differ from kind to kind of token.
        poles: of each kind, an autoregression of second order; of first, as in that paper, where one of them is 0.
        before: such noise ``[B, 2, 3, W]`` of the two frames before the first, if it goes on from any.
    """
    p, q = torch.tensor(poles, device=noise.device).unsqueeze(-1).unbind(1)
    together = (p + q) / (1 + p * q)  # neighbours' correlation
    new = ((1 - p**2) * (1 - q**2) * (1 - p * q) / (1 + p * q)).sqrt()
    frames = [] if before is None else list(before.unbind(1))
    for each in noise.unbind(1):
        if len(frames) > 1:
            each = (p + q) * frames[-1] - p * q * frames[-2] + new * each
        elif frames:
            each = together * frames[-1] + (1 - together**2).sqrt() * each
        frames.append(each)
    return torch.stack(frames[-noise.shape[1] :], 1)


class MotionPrior(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """The noise in motion tokens (equation 3).

    Args:
        token: numbers of a motion token.
        width: of the transformer.
        layers: L, each a causal block over all modalities and one along time.
        heads: of the attentions.
        features: of what is heard, a frame.
        ahead: frames of sound that a frame hears beyond its own: lips shape what comes.
        image: numbers of who is seen.
        dropout: in training.
    """

    @register_to_config
    def __init__(
        self,
        token: int = 32,
        width: int = 128,
        layers: int = 8,
        heads: int = 4,
        features: int = len(SILENT),
        ahead: int = 5,
        image: int = 128,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.kept: Tensor
        self.register_buffer("kept", cast(Any, scheduler_for_training()).alphas_cumprod, persistent=False)
        self.step = nn.Sequential(Timesteps(width, True, 0.0), TimestepEmbedding(width, width))
        self.heard = nn.Linear((1 + ahead) * features, width)
        self.film = nn.Linear(image, 2 * width)
        self.landmarks = nn.Linear(token, width)
        self.absent = nn.Parameter(torch.zeros(width))
        self.motion = nn.Linear(token, width)
        self.slots = nn.Parameter(torch.randn(len(SLOTS), width) / width**0.5)
        self.blocks = nn.ModuleList([_Block(width, heads, dropout) for _ in range(2 * layers)])
        self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, token))

    def forward(
        self, noisy: Tensor, timestep: Tensor, heard: Tensor, image: Tensor, landmarks: Tensor | None = None,
        guided: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """The noise ``[B, f, 3, W]``.

        Args:
            noisy: motion tokens ``[B, f, 3, W]`` under noise.
            timestep: of the diffusion, ``[B]``.
            heard: rows of :func:`rows_of`, ``[B, f + ahead, features]``.
            image: who is seen ``[B, image]``.
            landmarks: head tokens ``[B, f, W]`` of a driving video. Where they are given, the head is theirs: its noisy
                token is not looked at and nothing is said of its noise, which comes out as 0.
            guided: bool ``[B]``, of which videos of the batch ``landmarks`` are; of all by default.
        """
        batch, frames = noisy.shape[:2]
        tokens = self.sequence(noisy, timestep, heard, image, landmarks, guided)
        along = _places(frames, tokens.shape[-1]).to(tokens)[:, None]
        x = tokens + along + self.slots
        number, heads = torch.arange(frames, device=x.device), int(self.config["heads"])
        all_so_far = past(number.repeat_interleave(len(SLOTS)), heads).to(x)
        own_so_far = past(number, heads).to(x)
        for together, each in zip(self.blocks[::2], self.blocks[1::2], strict=True):
            x = together(x.flatten(1, 2), all_so_far).view_as(x)  # all modalities of the frames so far
            x = each(x.transpose(1, 2).flatten(0, 1), own_so_far).unflatten(0, (batch, -1)).transpose(1, 2)
        # what is said is the velocity (Salimans and Ho 2022), from which the noise follows, as in EmoDiff
        kept = self.kept[timestep].view(-1, 1, 1, 1)
        noise = (1 - kept).sqrt() * noisy + kept.sqrt() * self.out(x[:, :, -KINDS:])
        return cast(Tensor, noise if landmarks is None else noise.masked_fill(_head_of(noise, guided), 0.0))

    def sequence(
        self, noisy: Tensor, timestep: Tensor, heard: Tensor, image: Tensor, landmarks: Tensor | None,
        guided: Tensor | None,
    ) -> Tensor:  # fmt: skip
        """Every frame's tokens ``[B, f, 6, width]`` in the order of ``SLOTS``."""
        frames = noisy.shape[1]
        scale, shift = self.film(image)[:, None].chunk(2, -1)
        windows = heard.unfold(1, 1 + int(self.config["ahead"]), 1).flatten(2)  # a frame's rows and those ahead of it
        modulated = self.heard(windows) * (1 + scale) + shift  # FiLM
        lead = self.absent.expand_as(modulated)
        if landmarks is not None:
            shown = self.landmarks(landmarks)
            lead = shown if guided is None else torch.where(guided[:, None, None], shown, lead)
            noisy = noisy.masked_fill(_head_of(noisy, guided), 0.0)
        step = self.step(timestep)[:, None].expand(-1, frames, -1)
        return torch.cat([torch.stack([step, modulated, lead], 2), self.motion(noisy)], 2)


def _head_of(tokens: Tensor, guided: Tensor | None) -> Tensor:
    """Which of tokens ``[B, f, 3, W]`` are heads of guided videos."""
    head = torch.zeros(tokens.shape[2], dtype=torch.bool, device=tokens.device)
    head[HEAD] = True
    chosen = head[None, None, :, None].expand_as(tokens)
    return chosen if guided is None else chosen & guided[:, None, None, None]


def past(number: Tensor, heads: int) -> Tensor:
    """What is added to causal attention's logits, ``[heads, n, n]``, of tokens whose frames have these numbers ``[n]``.

    A token sees itself and those before it, and the nearer ones sooner, each head in another degree (Press et al. 2022;
    FaceFormer, Fan et al. 2022, does so with speech and faces): what a mouth does now depends on what is heard now.
    """
    slopes = 4.0 ** -torch.arange(heads, device=number.device)
    away = (number[:, None] - number).float()
    later = torch.ones(len(number), len(number), dtype=torch.bool, device=number.device).triu(1)
    return (-slopes[:, None, None] * away).masked_fill(later, -torch.inf)


class _Block(nn.Module):
    """A transformer block of tokens ``[B, n, width]``, with what :func:`past` says of them."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_layers = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_qkv = nn.Linear(width, 3 * width)
        self.to_out = nn.Sequential(nn.Linear(width, width), nn.Dropout(dropout))
        self.layers = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        q, k, v = self.to_qkv(self.before_attention(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        found = nn.functional.scaled_dot_product_attention(q, k, v, seen.to(q.dtype))
        x = x + self.to_out(found.transpose(1, 2).flatten(2))
        return cast(Tensor, x + self.layers(self.before_layers(x)))


def _places(frames: int, width: int) -> Tensor:
    """Numbers of frames as sines and cosines ``[f, width]`` (Vaswani et al. 2017, section 3.5)."""
    rates = 10_000.0 ** -(torch.arange(0, width, 2) / width)
    angles = torch.arange(frames)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], -1)


class MotionPriorDrive:
    """Speech to motion, window after window; each goes on from the last frames of the one before.

    Args:
        tokens: see :class:`MotionTokens`.
        prior: see :class:`MotionPrior`.
        ear: see :func:`rows_of`.
        image: who is seen, ``[image]``; nobody in particular by default.
        driving: motion of a driving video, whose head leads; where the sound is longer, it runs forth and back.
        seed: 0 to 2^32 - 1, of all noise.
        steps: of denoising a window.
        temperature: spread of the noise that heads, lips and expressions begin with.
        poles: of that noise, see :func:`progressive`.

    Raises:
        OptionError: when an option is out of its range.
    """

    def __init__(
        self, tokens: MotionTokens, prior: MotionPrior, ear: Audio2BSDrive, *, image: Tensor | None = None,
        driving: Motion | None = None, seed: int = 0, steps: int = STEPS,
        temperature: Sequence[float] = TEMPERATURE, poles: Sequence[tuple[float, float]] = BEGUN,
    ) -> None:  # fmt: skip
        if not 0 <= seed <= LARGEST_SEED:
            raise OptionError(f"seed is {seed}; expected 0 to {LARGEST_SEED}")
        if not 1 <= steps <= TIMESTEPS:
            raise OptionError(f"steps are {steps}; expected 1 to {TIMESTEPS}")
        self.tokens, self.prior, self.ear, self.seed, self.steps = tokens.eval(), prior.eval(), ear, seed, steps
        self.temperature, self.poles = torch.tensor(temperature)[:, None], poles
        self.image = torch.zeros(int(prior.config["image"])) if image is None else image
        self.head: Tensor | None = None
        if driving is not None:
            whole = np.concatenate([driving.coefficients, driving.head], 1).astype(np.float32)
            with torch.inference_mode():
                self.head = self.tokens.encode(torch.from_numpy(whole))[:, HEAD]

    @classmethod
    def load(cls, *, image: Tensor | None = None, driving: Motion | None = None, seed: int = 0) -> MotionPriorDrive:
        """The trained drive, with networks of its own; arguments as above.

        Raises:
            OptionError: when the seed is out of its range.
            WeightsError: when weights are missing.
        """
        from magictalk import weights

        tokens, prior = SHIPPED
        return cls(weights.load(MotionTokens, tokens), weights.load(MotionPrior, prior), Audio2BSDrive.load(),
                   image=image, driving=driving, seed=seed)  # fmt: skip

    def __call__(self, speech: Speech) -> Iterator[Motion]:
        """Motion in chunks of at most 48 frames; the total follows the sound exactly."""
        return self.stream(speech.chunks())

    def stream(self, chunks: Iterator[NDArray[np.float32]]) -> Iterator[Motion]:
        """As ``__call__``, from float32 pieces ``[N]`` at 16 kHz of any sizes."""
        before = np.zeros((0, len(BLINK)), np.float32)
        for tokens in self.token_stream(chunks):
            with torch.inference_mode():
                whole = self.tokens.decode(tokens).numpy()
            coefficients = whole[:, : len(ARKIT)].clip(0, 1)
            lids = np.concatenate([before, coefficients[:, BLINK]])
            coefficients[:, BLINK] = lids_closed(steady(lids)[len(before) :])
            before = lids[-LID_REACH:]
            yield Motion(coefficients, whole[:, len(ARKIT) :])

    def token_stream(self, chunks: Iterator[NDArray[np.float32]]) -> Iterator[Tensor]:
        """Motion tokens ``[n, 3, W]``, a window's new frames at a time."""
        generator = torch.Generator().manual_seed(self.seed)
        known = torch.zeros(self.steps + 1, 0, KINDS, int(self.prior.config["token"]))
        for start, rows in self._windows(chunks):
            found = self._window(torch.from_numpy(rows)[None], known, start, generator)
            yield found[-1, known.shape[1] :]
            known = found[:, -CONTEXT:]

    def _windows(self, chunks: Iterator[NDArray[np.float32]]) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Of each window its first new frame, and the rows it hears, its context's and those ahead among them."""
        ahead = int(self.prior.config["ahead"])
        rows = np.zeros((0, len(SILENT)), np.float32)  # from `context` frames before `start` on
        start = context = 0
        for heard in rows_of(self.ear, chunks):
            rows = np.concatenate([rows, heard])
            while len(rows) >= context + HOP + ahead:
                yield start, rows[: context + HOP + ahead]
                start += HOP
                rows, context = rows[context + HOP - CONTEXT :], CONTEXT
        while (left := len(rows) - context) > 0:
            frames = min(HOP, left)
            yield start, np.concatenate([rows, np.tile(SILENT, (ahead, 1))])[: context + frames + ahead]
            start += frames
            rows, context = rows[max(0, context + frames - CONTEXT) :], min(CONTEXT, context + frames)

    @torch.inference_mode()
    def _window(self, rows: Tensor, known: Tensor, start: int, generator: torch.Generator) -> Tensor:
        """Tokens of a window before each step of the denoising and after all, ``[steps + 1, f, 3, W]``.

        Its first frames, ``known``, go again the way that they went in the window before, and the others' noise goes on
        from theirs. Noise of their own over what became of them would not do: where noise is as smooth as motion, one
        cannot be told from the other, and heads jump between windows. As this window sees less of the past it would go
        on from a place that is a little off: the others begin that far off too, and less and less.
        """
        scheduler = scheduler_for_sampling("ddim")
        scheduler.set_timesteps(self.steps)
        count, frames = known.shape[1], rows.shape[1] - int(self.prior.config["ahead"])
        white = torch.randn(1, frames - count, *known.shape[2:], generator=generator)
        noise = progressive(white * self.temperature, self.poles, known[:1, -2:] if count else None)
        x, landmarks = torch.cat([known[:1], noise], 1), self._landmarks(start - count, frames)
        fading = (-torch.arange(1, frames - count + 1) / GIVES_WAY).exp()[:, None, None]
        way = [x[0]]
        for t, held in zip(scheduler.timesteps, known[1:], strict=True):
            epsilon = self.prior(x, t[None], rows, self.image[None], landmarks)
            x = scheduler.step(epsilon, int(t), x).prev_sample
            if landmarks is not None:
                x[:, :, HEAD] = landmarks
            if count:
                x[:, count:] += fading * (held[-1] - x[:, count - 1])[:, None]
            x[:, :count] = held
            way.append(x[0])
        return torch.stack(way)

    def _landmarks(self, first: int, frames: int) -> Tensor | None:
        """Head tokens ``[1, f, W]`` of the driving video, forth and back where it is shorter than the sound."""
        if self.head is None:
            return None
        last = len(self.head) - 1
        places = np.abs((np.arange(first, first + frames) + last) % max(1, 2 * last) - last)
        return self.head[torch.from_numpy(places)][None]
