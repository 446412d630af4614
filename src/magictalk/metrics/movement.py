"""Do brows, lids and head move like people's? Speeds, the spectrum of the head's motion, and what chance changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torchmetrics import Metric

from magictalk.face.rig import BROWS, Rig
from magictalk.metrics.functional import movement
from magictalk.metrics.mean import Mean
from magictalk.motion import BLINK

Rows = NDArray[np.float32]

SMOOTH_S = 0.08
"""Standard deviation of the Gaussian over brows and head: with it the tracker reads a known motion's own speed."""


def movement_rows(rig: Rig, landmarks: NDArray[np.float32]) -> dict[str, Rows]:
    """What the figures here are made of, by name, from meshes ``[T, 478, 3]`` in pixels; NaN where no face is seen.

    ``coefficients [T, 52]``; ``rotation [T, 3]`` of the head, a rotation vector in radians; ``brows [T, 2]``, how far
    the person's right and left brow are above rest, in hundredths of the inter-ocular distance.
    """
    seen = np.isfinite(landmarks).all((1, 2))
    rows = {name: np.full((len(seen), size), np.nan, np.float32) for name, size in ROWS.items()}
    if seen.any():
        fit = rig.fit_video(landmarks)
        lift = 100 * fit.coefficients @ rig.shapes[:, list(BROWS), 1]
        found = fit.coefficients, fit.pose.rotation, lift.reshape(-1, 2, len(BROWS) // 2).mean(-1)
        for name, values in zip(ROWS, found, strict=True):
            rows[name][seen] = values[seen]
    return rows


ROWS = {"coefficients": 52, "rotation": 3, "brows": 2}
"""What :func:`movement_rows` gives, and its numbers a frame."""


@dataclass(frozen=True)
class Part:
    """A part of the face that moves: the rows it is read from, and its speed in each frame, ``[T, K]`` to ``[n]``."""

    rows: str
    speeds: Callable[[Rows], NDArray[np.float64]]


PARTS = {
    "brow": Part("brows", lambda rows: movement.speeds(rows, SMOOTH_S)),
    "lid": Part("coefficients", lambda rows: movement.speeds(rows[:, list(BLINK)])),
    "head": Part("rotation", lambda rows: movement.head_speeds(rows, SMOOTH_S)),
}
"""By name. Lids are not smoothed: a blink is faster than what jitters."""


class _Speeds(Metric):
    """Speeds of a part of the face in generated and in real videos."""

    full_state_update = False
    is_differentiable = False
    needs: str | None = None
    generated: list[Tensor]
    real: list[Tensor]

    def __init__(self, part: Literal["brow", "lid", "head"], **options: Any) -> None:
        super().__init__(**options)
        self.part = PARTS[part]
        self.add_state("generated", [], dist_reduce_fx="cat")
        self.add_state("real", [], dist_reduce_fx="cat")

    def update(self, rows: Rows, real: bool) -> None:
        """Take a clip's rows, ``PARTS[part].rows`` of :func:`movement_rows`, of a real or of a generated video."""
        (self.real if real else self.generated).append(torch.from_numpy(self.part.speeds(rows)))

    def _compare(self, compare: Callable[[NDArray[np.float64], NDArray[np.float64]], float]) -> Tensor:
        """``compare`` of all speeds, generated and real; NaN where either are none."""
        ours, theirs = (torch.cat([torch.zeros(0), *_parts(x)]).numpy() for x in (self.generated, self.real))
        value = compare(ours, theirs) if len(ours) and len(theirs) else float("nan")
        return torch.tensor(value, dtype=torch.float64)


def _parts(state: list[Tensor] | Tensor) -> list[Tensor]:
    """A state of torchmetrics that is concatenated: a list, or one tensor once it has been merged."""
    return [state] if isinstance(state, Tensor) else state


class SpeedRatio(_Speeds):
    """Mean speed of brows, lids or head in all generated videos over that in all real ones; 1 is like people.

    Args:
        part: brows by the height of each, smoothed; lids by ``eyeBlink``; the head by its rotation, smoothed.
    """

    unit = "of real"
    higher_is_better = None

    def __init__(self, part: Literal["brow", "lid", "head"], **options: Any) -> None:
        super().__init__(part, **options)
        self.figure = f"{part} speed"

    def compute(self) -> Tensor:
        """The ratio, a float64 scalar; NaN where either side has no speed."""
        return self._compare(lambda ours, theirs: float(ours.mean() / theirs.mean()))


class SpeedDistance(_Speeds):
    """1-Wasserstein distance of the distributions of that speed, in parts of the real mean; 0 is like people.

    It is at least what the ratio of the means is off by.

    Args:
        part: as in :class:`SpeedRatio`.
    """

    unit = ""
    higher_is_better = False

    def __init__(self, part: Literal["brow", "lid", "head"], **options: Any) -> None:
        super().__init__(part, **options)
        self.figure = f"{part} speed W1"

    def compute(self) -> Tensor:
        """The distance, a float64 scalar; NaN where either side has no speed."""
        return self._compare(movement.distribution_distance)


class HeadSpectrum(Metric):
    """Distance in dB between the power spectra of the head's turning, generated and real, 0.2 to 4 Hz.

    Spectra are averaged over the windows of all clips of a side (:func:`magictalk.metrics.functional.movement.
    head_spectra`); the distance is the root mean square over bins, and over pitch, yaw and roll.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = False
    figure = "head spectrum"
    unit = "dB"
    needs: str | None = None
    windows: Tensor
    power: Tensor

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        bins = round(movement.BAND_HZ[1] / movement.BAND_HZ[0])
        # generated, then real
        self.add_state("windows", torch.zeros(2, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("power", torch.zeros(2, bins, 3, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, rotations: Rows, real: bool) -> None:
        """Take a clip's rotation vectors ``[T, 3]`` in radians, NaN without a face, of a real or generated video."""
        spectra = torch.from_numpy(movement.head_spectra(rotations))
        self.windows[int(real)] += len(spectra)
        self.power[int(real)] += spectra.sum(0)

    def compute(self) -> Tensor:
        """The distance, a float64 scalar; NaN where a side has no stretch of 2 s with a face."""
        if self.windows.min() == 0:
            return torch.tensor(float("nan"), dtype=torch.float64)
        generated, real = (self.power / self.windows[:, None, None]).numpy()
        return torch.tensor(movement.decibels_apart(generated, real), dtype=torch.float64)


class ExpressionDiversity(Mean):
    """How unlike the faces of takes with other seeds are, the head's pose aside; mean over clips.

    Mean distance of the mesh's points in hundredths of the inter-ocular distance, over pairs of takes and frames.
    Noise is diverse too: neither direction is better.
    """

    figure = "expression diversity"
    unit = "%"
    higher_is_better = None

    def update(self, takes: Sequence[ArrayLike], rig: Rig) -> None:
        """Take the coefficients ``[T, 52]`` of two takes of a clip or more; what is longer is cut."""
        meshes = [rig.vertices(coefficients) for coefficients in _alike(takes)]
        self.add(100 * movement.point_diversity(meshes))


class HeadDiversity(Mean):
    """Mean angle between the heads in takes with other seeds, over pairs of takes and frames; mean over clips."""

    figure = "head diversity"
    unit = "°"
    higher_is_better = None

    def update(self, takes: Sequence[ArrayLike]) -> None:
        """Take the rotation vectors ``[T, 3]`` in radians of two takes of a clip or more; what is longer is cut."""
        self.add(movement.turn_diversity(_alike(takes)))


def _alike(takes: Sequence[ArrayLike]) -> list[NDArray[np.float64]]:
    """The takes as far as the shortest goes."""
    series = [np.asarray(take, np.float64) for take in takes]
    return [take[: min(map(len, series))] for take in series]
