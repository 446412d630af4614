"""Drives on a dataset's clips: what EmoDiff's networks make of the sound, and how the lips go with the real ones."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from magictalk import weights
from magictalk.data.dataset import Dataset, Sample
from magictalk.drive.audio2bs import Audio2BSDrive
from magictalk.drive.emodiff import EmoDiff, EmoDiffDrive
from magictalk.drive.lips import EmotionalResidue, LipDrive
from magictalk.face.rig import Rig
from magictalk.metrics.functional.lips import pearson
from magictalk.metrics.lips import MEASURES
from magictalk.motion import ARKIT, Motion
from magictalk.style import Style


@dataclass(frozen=True)
class Networks:
    """What a drive is made of, loaded once for many styles."""

    whole: EmoDiff
    neutral: Audio2BSDrive
    residue: EmotionalResidue

    @staticmethod
    def load(emodiff: str, lips: str) -> Networks:
        """By name, folder or hub id; errors as in :mod:`magictalk.weights`."""
        return Networks(weights.load(EmoDiff, emodiff), Audio2BSDrive.load(), weights.load(EmotionalResidue, lips))

    def drive(self, style: Style, seed: int = 0, refine: bool = True) -> EmoDiffDrive:
        """The drive as ``animate`` makes it."""
        made = EmoDiffDrive(self.whole, style, seed=seed)
        if refine:
            reference = self.whole.talking[0, :, : len(ARKIT)].float().numpy()
            made.lips = LipDrive(self.neutral, self.residue, style, reference)
        return made


def add_weights_options(parser: argparse.ArgumentParser) -> None:
    """Which networks to load."""
    parser.add_argument("--weights", default="emodiff", help="of EmoDiff: name, folder or hub id")
    parser.add_argument("--lips", default="lips", help="of the lip refinement: name, folder or hub id")


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Which clips to hear."""
    parser.add_argument("--data", required=True, help="a folder made by magictalk data build")
    parser.add_argument("--split", default="val", help="whose sounds are heard; test for final figures")
    parser.add_argument("--clips", type=int, help="only so many of its clips")


def read_clips(options: argparse.Namespace) -> list[Sample]:
    """The clips that the options ask for; errors as :class:`Dataset`."""
    return list(Dataset(options.data, options.split))[: options.clips]


def motion_of(drive: EmoDiffDrive | Audio2BSDrive, samples: NDArray[np.float32]) -> Motion:
    """All that a drive makes of sound ``[N]`` at 16 kHz."""
    return Motion.concatenate(list(drive.stream(iter([samples]))))


def lip_correlations(motions: Iterable[Motion], clips: Sequence[Sample], rig: Rig) -> dict[str, float]:
    """Correlation of gap, width and jaw drop of the rig's mean face with the tracked ones, mean over clips."""
    found: dict[str, list[float]] = {name: [] for name in MEASURES}
    for motion, clip in zip(motions, clips, strict=True):
        made, real = rig.vertices(motion.coefficients), clip.pose.to_face(clip.landmarks)
        for name, measure in MEASURES.items():
            found[name].append(pearson(measure(made), measure(real), clip.seen))
    return {name: float(np.mean(values)) for name, values in found.items()}
