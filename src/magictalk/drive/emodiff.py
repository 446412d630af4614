"""EmoDiff: a diffusion model of the whole face and head, led by voice and expression (MagicTalk, section 3.2).

A transformer predicts the noise in 32 frames of ARKit coefficients and head pose. It cross-attends to what is heard,
frame by frame joined with the time-aware positional condition: the first frame holds where the face is, the middle
three hold the style. Windows follow each other as Algorithm 1 says, so any length comes out of a bounded memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import tee
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from diffusers import ConfigMixin, DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from numpy.typing import NDArray
from torch import Tensor, nn

from magictalk import weights
from magictalk.audio.features import MELS, MELS_PER_FRAME, SAMPLE_RATE, SILENCE, Features
from magictalk.drive.idle import LARGEST_SEED
from magictalk.drive.lips import LipDrive
from magictalk.drive.mix import aligned
from magictalk.errors import OptionError
from magictalk.face.rig import lids_closed
from magictalk.motion import ARKIT, BLINK, FPS, Motion
from magictalk.style import EMOTIONS, Style, expression, lay_over

if TYPE_CHECKING:
    from magictalk.speech import Speech

VALUES = len(ARKIT) + 6
"""Numbers a frame: coefficients, then head rotation and translation."""
FRAME_SAMPLES = int(SAMPLE_RATE / FPS)
TIMESTEPS = 1000
"""Steps T of the forward process."""
STYLE_FRAMES = 3
BANK_FRAMES = 8
GUIDANCE = 0.5
"""The scale ``w`` of equation 5 that drives use by default."""
STEPS = 10
"""Denoising steps that drives use by default."""
MOST_GUIDANCE = 10.0
STEPS_RANGE = 4, 1000
BLEND_FRAMES = 8
"""Frames over which a window's start is eased onto the end of the one before."""
LID_REACH, LID_TREMBLE = 2, 0.15
"""Frames on either side, and the change of a lid, over which it is steadied; chosen on ``val``."""
StyleCondition = Literal["positional", "label", "none"]


def scheduler_for_training() -> DDPMScheduler:
    """The forward process of equation 1, noise predicted."""
    return DDPMScheduler(TIMESTEPS, prediction_type="epsilon", clip_sample=False)


def scheduler_for_sampling(name: Literal["dpm", "ddim"] = "dpm") -> Any:
    """DPM-Solver++ (Lu et al. 2022) or DDIM (Song et al. 2021) for the same process."""
    config: Any = scheduler_for_training().config  # type: ignore[attr-defined]
    if name == "ddim":
        return DDIMScheduler.from_config(config, timestep_spacing="trailing")
    return DPMSolverMultistepScheduler.from_config(config, timestep_spacing="linspace", final_sigmas_type="zero")


def _products() -> Tensor:
    """Equation 1's cumulative products of alpha ``[T]``."""
    scheduler: Any = scheduler_for_training()
    products: Tensor = scheduler.alphas_cumprod
    return products


def _waves(frames: int) -> Tensor:
    """The orthonormal cosine transform over time ``[frames, frames]`` (DCT-II), a row a frequency."""
    k, t = torch.arange(frames)[:, None], torch.arange(frames)
    waves = torch.cos(np.pi / frames * (t + 0.5) * k) * (2 / frames) ** 0.5
    waves[0] /= 2**0.5
    return waves


def _sinusoids(frames: int, width: int) -> Tensor:
    """Places ``[frames, width]`` as sines and cosines (Vaswani et al. 2017, section 3.5)."""
    rates = torch.exp(-torch.arange(0, width, 2) / width * np.log(10_000.0))
    angles = torch.arange(frames)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)


class _Near(nn.Module):
    """Faces move smoothly: a convolution over five frames, added to what it is given, ``[B, N, hidden]``."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.convolution = nn.Conv1d(hidden, hidden, 5, padding=2)

    def forward(self, x: Tensor) -> Tensor:
        return x + nn.functional.gelu(self.convolution(self.norm(x).mT)).mT


class EmoDiff(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """The noise of ``frames`` frames of motion (MagicTalk, section 3.2, equations 2 to 5).

    Args:
        frames: N, the length of a window.
        hidden: width of the transformer.
        layers: of the transformer decoder.
        heads: of its attentions.
        dropout: in training.
        bands: mel bands.
        people: people of whom eight talking faces are kept with the weights; they carry a style without real frames.
        style: ``"positional"`` is the paper's; ``"label"`` gives every frame the emotion's one-hot code instead,
            ``"none"`` nothing (section 4.3's ablation).
        start: whether the first frame's condition holds the initial state (section 4.3's ablation).
    """

    @register_to_config
    def __init__(
        self,
        frames: int = 32,
        hidden: int = 192,
        layers: int = 3,
        heads: int = 4,
        dropout: float = 0.1,
        bands: int = MELS,
        people: int = 32,
        style: StyleCondition = "positional",
        start: bool = True,
    ) -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.talking: Tensor
        self.colours: Tensor
        self.waves: Tensor
        self.kept: Tensor
        self.register_buffer("mean", torch.zeros(VALUES))
        self.register_buffer("std", torch.ones(VALUES))
        self.register_buffer("colours", torch.eye(VALUES).repeat(frames, 1, 1))
        self.register_buffer("waves", _waves(frames), persistent=False)
        self.register_buffer("kept", _products(), persistent=False)
        self.register_buffer("talking", torch.zeros(people, BANK_FRAMES, VALUES))
        code = len(EMOTIONS) if style == "label" else 0
        self.motion = nn.Linear(2 * VALUES, hidden)
        self.near = nn.ModuleList([_Near(hidden) for _ in range(2)])
        self.condition = nn.Linear(VALUES + 1 + code + bands * MELS_PER_FRAME, hidden)
        self.matrix = nn.Linear(frames * (VALUES + 1 + code), hidden, bias=False)
        self.nothing = nn.Parameter(torch.zeros(hidden))
        self.place = nn.Parameter(_sinusoids(frames, hidden))
        self.step = nn.Sequential(Timesteps(hidden, True, 0.0), TimestepEmbedding(hidden, hidden))
        self.decoder = nn.TransformerDecoder(
            nn.TransformerDecoderLayer(hidden, heads, 4 * hidden, dropout, "gelu", batch_first=True, norm_first=True),
            layers,
            nn.LayerNorm(hidden),
        )
        self.mixture = nn.Linear(hidden, VALUES)
        nn.init.zeros_(self.mixture.weight)
        nn.init.zeros_(self.mixture.bias)

    def remember(self, condition: Tensor, audio: Tensor, dropped: Tensor | None = None) -> Tensor:
        """What the decoder attends to ``[B, N, hidden]``.

        Args:
            condition: ``[B, N, 59]`` of :func:`positional_condition` (with the label's code joined to it, if any).
            audio: ``[B, 4 N, bands]`` log-mel.
            dropped: bool ``[B]``, where c is the empty condition of equation 5.
        """
        heard = self.condition(torch.cat([condition, audio.unflatten(1, (-1, MELS_PER_FRAME)).flatten(2)], -1))
        heard = heard + self.matrix(condition.flatten(1))[:, None]  # four frames hold it, every frame needs it
        if dropped is not None:
            heard = torch.where(dropped[:, None, None], self.nothing, heard)
        return heard + self.place

    def forward(
        self, noisy: Tensor, timestep: Tensor, condition: Tensor, audio: Tensor, dropped: Tensor | None = None
    ) -> Tensor:
        """The noise ``[B, N, 58]`` in ``noisy [B, N, 58]`` at ``timestep [B]``; the rest as :meth:`remember`."""
        return self.predict(noisy, timestep, self.remember(condition, audio, dropped))

    def predict(self, noisy: Tensor, timestep: Tensor, memory: Tensor) -> Tensor:
        """As :meth:`forward`, from what :meth:`remember` gave.

        What the last layer gives is the mixture v of noise and motion (Salimans and Ho 2022), from which the noise
        follows: where there is nearly nothing but noise, a network that gave it directly would have to copy its input
        to the third decimal, and what it missed would come out as a motion that is three times too fast.
        """
        kept = self.kept[timestep][:, None, None]
        x = self.motion(torch.cat([noisy, self.coloured(noisy)], -1)) + memory + self.step(timestep)[:, None]
        for block in self.near:
            x = block(x)
        return (1 - kept).sqrt() * noisy + kept.sqrt() * self.mixture(self.decoder(x, memory))

    def describe(self, frames: Tensor) -> Tensor:
        """Frames of motion ``[..., 58]`` as conditions hold them: of unit spread."""
        return (frames - self.mean) / self.std

    def normalise(self, motion: Tensor) -> Tensor:
        """Windows of motion ``[..., N, 58]`` as the forward process takes them: white at every frequency.

        White noise then is, seen as motion, noise that moves as faces do: what a small network does not get right does
        not tremble.
        """
        waves = self.waves @ self.describe(motion)
        return self.waves.mT @ torch.linalg.solve(self.colours, waves[..., None])[..., 0]

    def coloured(self, values: Tensor) -> Tensor:
        """Normalised windows ``[..., N, 58]`` as motion of unit spread."""
        return self.waves.mT @ torch.einsum("...ki,kji->...kj", self.waves @ values, self.colours)

    def denormalise(self, values: Tensor) -> Tensor:
        """The inverse of :meth:`normalise`."""
        return self.coloured(values) * self.std + self.mean

    @torch.inference_mode()
    def sample(
        self,
        condition: Tensor,
        audio: Tensor,
        generator: torch.Generator,
        guidance: float = GUIDANCE,
        steps: int = STEPS,
        scheduler: Any = None,
    ) -> Tensor:
        """One window by the reverse process, with the guidance of equation 5.

        Args:
            condition: as :meth:`remember`.
            audio: as :meth:`remember`.
            generator: of the noise.
            guidance: w; 0 is the conditional model alone.
            steps: of the scheduler.
            scheduler: of diffusers; DPM-Solver++ by default.

        Returns:
            Normalised motion ``[B, N, 58]``.
        """
        batch = len(condition)
        scheduler = scheduler or scheduler_for_sampling()
        scheduler.set_timesteps(steps)
        memory = self.remember(condition, audio)
        if guidance:
            memory = torch.cat([memory, self.remember(condition, audio, torch.ones(batch, dtype=torch.bool))])
        x = torch.randn((batch, self.config["frames"], VALUES), generator=generator) * scheduler.init_noise_sigma
        for t in scheduler.timesteps:
            given = scheduler.scale_model_input(x, t)
            if guidance:
                with_c, without = self.predict(torch.cat([given, given]), t.expand(2 * batch), memory).chunk(2)
                noise = (guidance + 1) * with_c - guidance * without  # equation 5
            else:
                noise = self.predict(given, t.expand(batch), memory)
            x = scheduler.step(noise, t, x).prev_sample
        return x


def middle(frames: int) -> slice:
    """The three places of a window that hold the style: N/2 - 1 to N/2 + 1."""
    return slice(frames // 2 - 1, frames // 2 - 1 + STYLE_FRAMES)


def positional_condition(frames: int, state: Tensor | None, style: Tensor | None, like: Tensor) -> Tensor:
    """The time-aware positional condition ``[B, N, 59]`` (section 3.2; Algorithm 1, lines 5 to 9).

    Args:
        frames: N.
        state: ``[B, 58]``, the motion in the window's first frame, or None.
        style: ``[B, 3, 58]``, three frames of expression, or None.
        like: any tensor ``[B, ...]`` of the batch, type and device.

    Returns:
        Zeros, but for the first row, which is the state, and the middle three, which are the style; what they hold ends
        in 1.
    """
    c = like.new_zeros(len(like), frames, VALUES + 1)
    if state is not None:
        c[:, 0, :-1] = state
        c[:, 0, -1] = 1
    if style is not None:
        c[:, middle(frames), :-1] = style
        c[:, middle(frames), -1] = 1
    return c


class EmoDiffDrive:
    """Speech and style to motion, window after window (Algorithm 1), with the memory of a few seconds.

    The lips are refined, if there is a :class:`LipDrive`; what else EmoDiff made stays.

    Args:
        network: see :class:`EmoDiff`.
        style: what expression, over time.
        lips: makes the lips; None leaves EmoDiff's own.
        seed: 0 to 2^32 - 1, of all noise and of the style frames drawn; it also chooses who of the bank carries a style
            that comes without frames of its own.
        guidance: w of equation 5, 0 to 10.
        steps: of denoising a window, 4 to 1000.
        blend: frames over which a window's start is eased onto the last one's end; 0 leaves it as it is sampled.

    Raises:
        OptionError: when an option is out of its range.
    """

    def __init__(
        self,
        network: EmoDiff,
        style: Style | None = None,
        lips: LipDrive | None = None,
        *,
        seed: int = 0,
        guidance: float = GUIDANCE,
        steps: int = STEPS,
        blend: int = BLEND_FRAMES,
    ) -> None:
        if not 0 <= seed <= LARGEST_SEED:
            raise OptionError(f"seed is {seed}; expected 0 to {LARGEST_SEED}")
        if not 0 <= guidance <= MOST_GUIDANCE:
            raise OptionError(f"guidance is {guidance:g}; expected 0 to {MOST_GUIDANCE:g}")
        if not STEPS_RANGE[0] <= steps <= STEPS_RANGE[1]:
            raise OptionError(f"steps are {steps}; expected {STEPS_RANGE[0]} to {STEPS_RANGE[1]}")
        self.network, self.style, self.lips = network.eval(), style or Style.neutral(), lips
        self.seed, self.guidance, self.steps, self.blend = seed, guidance, steps, blend

    @classmethod
    def load(
        cls, style: Style | None = None, *, refine: bool = True, name: str | Path = "emodiff", seed: int = 0,
        **options: Any,
    ) -> EmoDiffDrive:  # fmt: skip
        """The drive with weights of this name, folder or hub id; errors as in :mod:`magictalk.weights`."""
        style = style or Style.neutral()
        network = weights.load(EmoDiff, name)
        drive = cls(network, style, seed=seed, **options)
        if refine:
            # the first of the bank, whoever carries the style: lips follow the sound, not the seed
            drive.lips = LipDrive.load(style, network.talking[0, :, : len(ARKIT)].float().numpy())
        return drive

    @property
    def carrier(self) -> NDArray[np.float32]:
        """Eight frames ``[8, 58]`` of whom the seed chose among the talking people that the network remembers."""
        people: NDArray[np.float32] = self.network.talking.float().numpy()
        return people[self.seed % len(people)]

    def __call__(self, speech: Speech) -> Iterator[Motion]:
        """Motion in chunks of at most 50 frames; the total follows the sound exactly."""
        return self.stream(speech.chunks())

    def stream(self, chunks: Iterator[NDArray[np.float32]]) -> Iterator[Motion]:
        """As ``__call__``, from float32 pieces ``[N]`` at 16 kHz of any sizes."""
        if self.lips is None:
            yield from self._whole(chunks)
            return
        one, other = tee(chunks)  # what one has read and the other not is a window or two of sound
        for refined, whole in aligned(self.lips.stream(one), self._whole(other)):
            yield refined.take(whole, "brows", "eyes", "cheeks", "head")

    def _whole(self, chunks: Iterator[NDArray[np.float32]]) -> Iterator[Motion]:
        """All of the face by EmoDiff alone."""
        before = np.zeros((0, len(BLINK)), np.float32)
        for window in self.windows(chunks):
            coefficients = window[:, : len(ARKIT)].clip(0, 1)
            lids = np.concatenate([before, coefficients[:, BLINK]])
            coefficients[:, BLINK] = lids_closed(steady(lids)[len(before) :])
            before = lids[-LID_REACH:]
            yield Motion(coefficients, window[:, len(ARKIT) :])

    def windows(self, chunks: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        """Algorithm 1: motion ``[n, 58]`` of each window, the frames that it adds.

        The style is that of the window's middle, 0.6 s from its ends: a change shows that much early or late, and an
        emotion shorter than a window (1.2 s) may show in the lips only, which follow their style frame by frame.

        A window of N frames begins with the last frame of the one before (line 16: ``i + N - 1``), so it adds N - 1;
        the frame that both have is the earlier window's.
        """
        n = int(self.network.config["frames"])
        generator = torch.Generator().manual_seed(self.seed)
        rng = np.random.default_rng(self.seed)
        state = self._style_frames(0.0, rng)[0]
        state[len(ARKIT) :] = 0  # the head begins as in the picture
        begun = False
        for start, audio, frames in _audio_windows(chunks, n):
            condition = self._condition(state, (start + n // 2) / FPS, rng)
            x = self.network.sample(condition, torch.from_numpy(audio)[None], generator, self.guidance, self.steps)
            motion = _eased(self.network.denormalise(x)[0].numpy(), state, self.blend)
            yield motion[begun:frames]
            begun, state = True, motion[-1]

    def _style_frames(self, second: float, rng: np.random.Generator) -> NDArray[np.float32]:
        """Three frames ``[3, 58]`` of the style at a time, drawn anew (line 13)."""
        drawn = self.carrier[rng.choice(BANK_FRAMES, STYLE_FRAMES, replace=False)]
        if self.style.frames is None:
            face = lay_over(drawn[:, : len(ARKIT)], self.style.expression(np.array([second])))
        else:
            face = self.style.frames[rng.integers(0, len(self.style.frames), STYLE_FRAMES)]
        return np.concatenate([face, drawn[:, len(ARKIT) :]], 1).astype(np.float32)

    def _condition(self, state: NDArray[np.float32], second: float, rng: np.random.Generator) -> Tensor:
        """Lines 5 to 9 and 13: what a window is told ``[1, N, 59]`` of the motion it starts from and of the style."""
        network = self.network
        kind, frames = network.config["style"], network.config["frames"]
        given, drawn = (network.describe(torch.from_numpy(x)[None]) for x in (state, self._style_frames(second, rng)))
        c = positional_condition(
            frames, given if network.config["start"] else None, drawn if kind == "positional" else None, like=given
        )
        if kind == "label":
            label = nearest_emotion(self.style.expression([second])[0])
            code = nn.functional.one_hot(torch.tensor(label), len(EMOTIONS)).to(c)
            c = torch.cat([c, code.expand(1, frames, -1)], -1)
        return c


def steady(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Series ``[T, K]`` that rest where they nearly rest and jump where they jump: a bilateral filter over time.

    Lids are still between blinks and fast in them, which no spectrum of noise is: what sampling leaves of it trembles.
    """
    padded = np.pad(values, ((LID_REACH, LID_REACH), (0, 0)), mode="edge")
    near = np.lib.stride_tricks.sliding_window_view(padded, 2 * LID_REACH + 1, axis=0)
    weights = np.exp(-0.5 * ((near - values[..., None]) / LID_TREMBLE) ** 2)
    return np.asarray((weights * near).sum(-1) / weights.sum(-1), np.float32)


def nearest_emotion(face: NDArray[np.float32]) -> int:
    """The place in ``EMOTIONS`` of the one that an expression ``[52]`` points to; 0, neutral, where it hardly shows."""
    size = float(np.linalg.norm(face))
    faces = np.stack([expression(label) for label in EMOTIONS[1:]])
    return 1 + int(np.argmax(faces @ face / np.linalg.norm(faces, axis=1))) if size > 0.1 else 0


def _audio_windows(
    chunks: Iterator[NDArray[np.float32]], frames: int
) -> Iterator[tuple[int, NDArray[np.float32], int]]:
    """For each window of ``frames``: its first frame, log-mel ``[4 N, 80]`` (silence past the end), and its frames.

    Each begins with the last frame of the one before; the last may have fewer frames than N.
    """
    features = Features()
    heard = np.zeros((0, MELS), np.float32)  # from frame `start` on
    samples = start = 0
    for piece in chunks:
        samples += len(piece)
        heard = np.concatenate([heard, features.push(piece)])
        while len(heard) >= frames * MELS_PER_FRAME and samples >= (start + frames) * FRAME_SAMPLES:
            yield start, heard[: frames * MELS_PER_FRAME], frames
            start += frames - 1
            heard = heard[(frames - 1) * MELS_PER_FRAME :]
    heard = np.concatenate([heard, features.finish()])
    total = round(samples / FRAME_SAMPLES)
    while total - start > (1 if start else 0):
        now = min(frames, total - start)
        rows = heard[: now * MELS_PER_FRAME]
        rows = np.pad(rows, ((0, frames * MELS_PER_FRAME - len(rows)), (0, 0)), constant_values=SILENCE)
        yield start, rows, now
        start += frames - 1
        heard = heard[(frames - 1) * MELS_PER_FRAME :]


def _eased(motion: NDArray[np.float32], state: NDArray[np.float32], frames: int) -> NDArray[np.float32]:
    """A window ``[N, 58]`` whose first frame is the state it was given exactly; what it missed fades out."""
    share = np.clip(1 - np.arange(len(motion)) / frames, 0, 1) if frames else np.zeros(len(motion))
    share = share * share * (3 - 2 * share)
    return (motion + share[:, None] * (state - motion[0])).astype(np.float32)
