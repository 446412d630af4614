"""What Audio2BS learns from: lip targets of tracked clips and of spoken phonemes, and the losses on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from magictalk.data.dataset import Sample
from magictalk.data.voices import VISEMES
from magictalk.drive.audio2bs import LIPS
from magictalk.face.rig import LIPS as LIP_POINTS
from magictalk.face.rig import Rig, inner_lip_gap, jaw_drop, mouth_width

POINTS = (*LIP_POINTS, 1, 152)
"""Mesh points in the losses: both lips, nose tip and chin."""

SHAPES = {
    "rest": (0.0, 0.0, 0.0), "close": (0.0, 0.0, 0.05), "bite": (0.03, 0.0, 0.06), "tongue": (0.07, 0.0, 0.08),
    "alveolar": (0.08, 0.01, 0.08), "hiss": (0.06, 0.02, 0.06), "hush": (0.08, -0.05, 0.06),
    "back": (0.10, 0.01, 0.09), "r": (0.08, -0.03, 0.08), "w": (0.045, -0.08, 0.07), "j": (0.08, 0.02, 0.08),
    "h": (0.12, 0.0, 0.10), "i": (0.09, 0.04, 0.07), "e": (0.13, 0.03, 0.10), "ae": (0.17, 0.03, 0.14),
    "a": (0.19, 0.01, 0.15), "schwa": (0.11, 0.0, 0.10), "open-o": (0.15, -0.04, 0.13), "o": (0.12, -0.05, 0.10),
    "u": (0.06, -0.07, 0.08), "y": (0.06, -0.07, 0.08),
}  # fmt: skip
"""Lip geometry of each viseme, authored: gap, and width and jaw drop over the face at rest, inter-ocular units."""


@dataclass
class Example:
    """A clip made ready.

    Attributes:
        name: the clip's key.
        kind: ``"one"`` (the speaker of whom there are 300 clips), ``"generated"``, or ``"people"``.
        split: of the dataset.
        samples: float32 ``[N]`` at 16 kHz.
        seen: bool ``[T]``.
        geometry: float32 ``[T, 3]``, real gap, width and jaw drop in face space.
        points: float32 ``[T, P, 3]``, ``POINTS`` as displacements from the person's face at rest.
        coefficients: float32 ``[T, 29]``, the rig's fit of the lips.
        rest: float32 ``[3]``, geometry of the person's face at rest.
        offset_s: the mouth at t matches the sound at t + this, beyond what the dataset corrected.
        targets: float32 ``[T, 6 + 3 P]``, see :func:`normalise`.
    """

    name: str
    kind: str
    split: str
    samples: NDArray[np.float32]
    seen: NDArray[np.bool_]
    geometry: NDArray[np.float32]
    points: NDArray[np.float32]
    coefficients: NDArray[np.float32]
    rest: NDArray[np.float32]
    offset_s: float
    targets: NDArray[np.float32]


def measure(points: NDArray[np.float64]) -> NDArray[np.float32]:
    """Gap, width and jaw drop ``[..., 3]`` of meshes ``[..., 478, 3]``."""
    return np.stack([inner_lip_gap(points), mouth_width(points), jaw_drop(points)], -1).astype(np.float32)


def kind_of(sample: Sample) -> str:
    """``"one"`` (the speaker of whom there are 300 clips), ``"generated"``, or ``"people"``."""
    generated = sample.record.licence == "generated"
    return {"grid_s1": "one"}.get(sample.record.identity, "generated" if generated else "people")


def example_of(sample: Sample) -> Example:
    """What training keeps of a clip of the dataset, without targets yet."""
    meshes = sample.pose.to_face(sample.landmarks)
    return Example(
        sample.key,
        kind_of(sample),
        sample.record.split,
        sample.samples,
        sample.seen,
        measure(meshes),
        (meshes - sample.neutral)[:, list(POINTS)].astype(np.float32),
        sample.motion.coefficients[:, list(LIPS)],
        measure(sample.neutral.astype(np.float64)),
        0.0,
        np.zeros((0, 0), np.float32),
    )


@dataclass(frozen=True)
class Scale:
    """Sizes typical of training clips: geometry's mean over rest and spread ``[3]``, points' mean and spread."""

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    points_mean: NDArray[np.float64]
    points_rms: float


def spread_of(example: Example) -> tuple[NDArray[np.float64], float]:
    """Standard deviation of a clip's geometry ``[3]`` and of its points (root mean square)."""
    points = example.points[example.seen]
    return example.geometry[example.seen].std(0).astype(np.float64), float(np.sqrt(points.var(0).mean()))


def scale_of(examples: Sequence[Example], weights: NDArray[np.float64]) -> Scale:
    """Weighted over clips; spreads as geometric means."""
    over_rest = np.stack([e.geometry[e.seen].mean(0) - [0, *e.rest[1:]] for e in examples])
    spreads = [spread_of(e) for e in examples]
    return Scale(
        weights @ over_rest,
        np.exp(weights @ np.log(np.stack([s for s, _ in spreads]))),
        np.tensordot(weights, np.stack([e.points[e.seen].mean(0) for e in examples]), 1),
        float(np.exp(weights @ np.log([r for _, r in spreads]))),
    )


def normalise(example: Example, scale: Scale, rest: NDArray[np.float32]) -> NDArray[np.float32]:
    """Targets ``[T, 6 + 3 P]`` with the person's own style taken out: geometry, its z-scores, point displacements.

    People differ in how wide they open the mouth and how it rests, and no network can hear that. The gap is
    scaled toward the common mean (so that closed stays closed); width, jaw drop and points are centred on the
    common mean, with half of the difference in spread (in logarithms) removed.
    """
    seen, geometry = example.seen, example.geometry.astype(np.float64)
    spread, points_rms = spread_of(example)
    mean = geometry[seen].mean(0)
    target = (geometry - mean) * np.sqrt(scale.std / spread) + scale.mean + rest
    target[:, 0] = geometry[:, 0] * (scale.mean[0] / mean[0]) ** 0.7
    z = ((geometry - mean) / spread).clip(-4, 4)
    points = (example.points - example.points[seen].mean(0)) * np.sqrt(scale.points_rms / points_rms)
    points = points + scale.points_mean
    return np.concatenate([target, z, points.reshape(len(points), -1)], 1).astype(np.float32)


class LipShape(nn.Module):
    """What lip coefficients do to the mean face, for losses to flow through."""

    def __init__(self, rig: Rig) -> None:
        super().__init__()
        place = {p: i for i, p in enumerate(POINTS)}
        self._pairs = [(place[a], place[b]) for a, b in ((13, 14), (61, 291), (1, 152))]
        self._shapes: Tensor
        self._neutral: Tensor
        self.register_buffer("_shapes", torch.from_numpy(rig.shapes[list(LIPS)][:, list(POINTS)].copy()))
        self.register_buffer("_neutral", torch.from_numpy(rig.neutral[list(POINTS)].copy()))

    def mesh(self, coefficients: Tensor) -> Tensor:
        """``POINTS`` of the mean face ``[..., P, 3]`` from coefficients ``[..., 29]``."""
        return self._neutral + torch.einsum("...k,kpd->...pd", coefficients, self._shapes)

    def geometry(self, mesh: Tensor) -> Tensor:
        """Gap, width and jaw drop ``[..., 3]`` of ``mesh [..., P, 3]``."""
        distances = [((mesh[..., a, :] - mesh[..., b, :]) ** 2).sum(-1) for a, b in self._pairs]
        return torch.sqrt(torch.stack(distances, -1) + 1e-6)


class LipLoss(LipShape):
    """Losses on coefficients ``[B, T, 29]`` through the rig: positions, motion, correlation, closures."""

    def __init__(self, rig: Rig, scale: Scale) -> None:
        super().__init__(rig)
        self._std = torch.from_numpy(scale.std.astype(np.float32))
        self._points_rms = scale.points_rms
        self._axes = torch.tensor([1.0, 1.0, 0.3]).repeat(len(POINTS))
        rest = self.geometry(self._neutral)
        rest[0] = 0.0
        self._visemes = torch.tensor([SHAPES[v] for v in VISEMES]) + rest

    def real(self, coefficients: Tensor, targets: Tensor, seen: Tensor) -> Tensor:
        """Loss on tracked clips: ``targets [B, T, 6 + 3 P]`` of :func:`normalise`, ``seen [B, T]``."""
        mesh = self.mesh(coefficients)
        geometry = self.geometry(mesh)
        m = seen.float()[..., None]
        count = m.sum()
        wanted, z = targets[..., :3], targets[..., 3:6]
        error = ((geometry - wanted) / self._std) ** 2 * m
        near = 1 + 2 * torch.exp(-wanted[..., 0] / 0.02)  # a closure missed is seen at once
        position = (error[..., 0] * near + 0.5 * error[..., 1] + 0.5 * error[..., 2]).sum() / count
        points = ((mesh - self._neutral).flatten(2) - targets[..., 6:]) / self._points_rms * self._axes
        points_error = (points**2 * m).sum() / count / points.shape[-1]
        step = (geometry.diff(dim=1) - wanted.diff(dim=1)) / self._std
        velocity = (step**2 * m[:, 1:] * m[:, :-1]).sum() / count
        frames = m.sum(1, keepdim=True).clamp(min=1)

        def centre(x: Tensor) -> Tensor:
            return (x - (x * m).sum(1, keepdim=True) / frames) * m

        p, q = centre(geometry), centre(z)
        shape = ((p / self._std - q) ** 2).sum() / count / 3
        r = (p * q).sum(1) / torch.sqrt(((p**2).sum(1) + 1e-7 * frames[:, 0]) * ((q**2).sum(1) + 1e-7 * frames[:, 0]))
        correlation = (1 - r)[m.mean((1, 2)) > 0.3].mean()
        crossed = torch.relu(mesh[..., self._pairs[0][1], 1] - mesh[..., self._pairs[0][0], 1]).mean()
        return position + 0.5 * points_error + velocity + 2 * shape + 2 * correlation + 20 * crossed

    def spoken(self, coefficients: Tensor, visemes: Tensor) -> Tensor:
        """Loss on synthetic speech from ``visemes [B, T, 21]``: closures, rest, and rough shapes of the others."""
        geometry = self.geometry(self.mesh(coefficients))
        gap = geometry[..., 0] / self._std[0]
        closed = (visemes[..., VISEMES.index("close")] > 0.4).float()
        rest = (visemes[..., VISEMES.index("rest")] > 0.9).float()
        rest[:, 1:-1] *= rest[:, :-2] * rest[:, 2:]
        rest[:, 0] = 0
        wanted = visemes @ self._visemes
        eased = wanted.clone()
        eased[:, 1:-1] = 0.25 * wanted[:, :-2] + 0.5 * wanted[:, 1:-1] + 0.25 * wanted[:, 2:]
        miss = torch.relu(((geometry - eased) / self._std).abs() - 0.3)  # the table is rough: a band about it is free
        shape = 0.6 * (miss**2).sum(-1) * (1 - rest)
        shut = 3 * closed * torch.relu(gap - 0.02 / self._std[0]) ** 2
        still = rest * (torch.relu(gap - 0.004 / self._std[0]) ** 2 + 50 * (coefficients**2).mean(-1))
        return (shape + shut + still).mean()
