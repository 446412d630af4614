"""Emotions: does the rendered face show what was asked for, and do the lips still follow the sound?

    python benchmarks/emotions.py --data out/dataset [--portrait FILE ...] [--sheet FILE] [--json FILE]

Two faces say a sentence with each of the eight labels at three intensities, each time with another seed. The faces in
the rendered frames are found anew. What their mean mesh shows beyond that of the same person speaking without any
expression is taken for an emotion in two ways:

* nearest: the label whose faces moved the mesh most nearly the same way (largest cosine), or neutral where it hardly
  moved: less than half as far again as the farthest of other renders without expression;
* classifier: multinomial logistic regression.

Both learn what labels look like from stills of the same person, found anew in the same way: variants of the presets,
each action unit stronger or weaker, laid by hand over a face that talks without EmoDiff. Other variants, held out, say
how well they learnt.

The lips are judged on the clips of a dataset's split, without rendering: correlation with the real lips under each
emotion at intensity 1, less that under neutral.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from clips import data_folder
from drives import Networks, add_data_options, add_weights_options, lip_correlations, motion_of, read_clips
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from table import Row, add_json_option, report, row

from magictalk.animation import animate
from magictalk.data.dataset import Sample
from magictalk.drive import mix
from magictalk.drive.speakers import speaker
from magictalk.face.landmarks import FaceTracker
from magictalk.face.pose import Pose
from magictalk.face.rig import Rig, point_weights
from magictalk.metrics.lips import MEASURES
from magictalk.motion import ARKIT, Motion
from magictalk.portrait import Portrait
from magictalk.speech import Speech
from magictalk.style import EMOTIONS, Style, lay_over, variant

INTENSITIES = (0.4, 0.8, 1.2)
SENTENCE = "I did not think that you would be here today, and now look at what has happened."
RECOVERED = 0.8
DROP = 0.05
HEAD = 2.2
"""Widths of the face that a crop of the portrait is wide."""
TILE, TILE_FACE = 160, 1.6
"""Pixels of a picture on the sheet, and how many widths of the face it is wide."""
SETTLING = 10
"""Frames of a video that are not judged: the face comes out of the picture's expression."""
REFERENCE_SEEDS, CALIBRATION_SEEDS = (900, 901), (902, 903)
VARIANTS, STILLS = 24, 6
"""Variants of each label that are learnt from (a third as many are held out), and stills of each."""

Mesh = NDArray[np.float64]


@dataclass(frozen=True)
class Render:
    """What a rendered video shows.

    Attributes:
        mesh: ``[478, 3]`` in face space, mean over its frames.
        picture: uint8 RGB ``[TILE, TILE, 3]``, the head in the frame whose mesh is nearest to the middle one.
    """

    mesh: Mesh
    picture: NDArray[np.uint8]


def head_shot(portrait: Portrait, pixels: int) -> Portrait:
    """The same person, the picture cut around the head and scaled to ``pixels``."""
    x, y, w, h = portrait.face.box
    half = HEAD / 2 * max(w, h)
    height, width = portrait.image.shape[:2]
    left, right = (round(np.clip(x + w / 2 + side, 0, width)) for side in (-half, half))
    top, bottom = (round(np.clip(y + h / 2 + side, 0, height)) for side in (-half, half))
    cut = portrait.image[top:bottom, left:right]
    scale = pixels / max(cut.shape[:2])
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return Portrait.from_array(np.asarray(cv2.resize(cut, None, fx=scale, fy=scale, interpolation=way), np.uint8))


def look(portrait: Portrait, frames: list[NDArray[np.uint8]], tracker: FaceTracker) -> Render:
    """Find the face in rendered frames anew."""
    tracker.reset()
    found = [(frame, tracker(frame)) for frame in frames][SETTLING:]
    seen = [(frame, face) for frame, face in found if face is not None]
    meshes = np.stack([face.landmarks for _, face in seen])
    points = face_space(portrait, meshes)
    far = (point_weights() * (points - np.median(points, 0)) ** 2).sum((1, 2))
    frame, face = seen[int(far.argmin())]
    x, y, w, h = face.box
    side = TILE_FACE * max(w, h)
    scale, centre = TILE / side, (x + w / 2, y + 0.45 * h)
    place = np.array([[scale, 0, TILE / 2 - scale * centre[0]], [0, scale, TILE / 2 - scale * centre[1]]])
    tile = cv2.warpAffine(frame, place, (TILE, TILE), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)
    return Render(points.mean(0), np.asarray(tile, np.uint8))


def face_space(portrait: Portrait, meshes: Mesh) -> Mesh:
    """Meshes ``[T, 478, 3]`` in pixels without the head's pose; NaN where there is none."""
    seen = np.isfinite(meshes).all((1, 2))
    points = np.full(meshes.shape, np.nan)
    points[seen] = Pose.fit_sequence(meshes[seen], portrait.neutral).to_face(meshes[seen])
    return points


class Stage:
    """One face, ready to say the sentence in any emotion.

    Args:
        portrait: who.
        speech: what is said.
        tracker: finds the face again.
    """

    def __init__(self, portrait: Portrait, speech: Speech, tracker: FaceTracker) -> None:
        self.portrait, self.speech, self._tracker = portrait, speech, tracker
        reference = np.mean([self._blank(seed).mesh for seed in REFERENCE_SEEDS], 0)
        self.reference: Mesh = reference
        self.calibration = [self._blank(seed).mesh - reference for seed in CALIBRATION_SEEDS]
        talk = Motion.concatenate(list(mix.speak(speech)))[SETTLING:]
        learnt, held = (self._examples(talk, n, np.random.default_rng(n)) for n in (VARIANTS, VARIANTS // 3))
        self.learnt, self.held = (moved - learnt[0].mean(0) for moved in (learnt, held))

    def play(self, label: str, intensity: float, seed: int) -> Render:
        """The face as ``animate`` makes it speak."""
        animation = animate(self.portrait, self.speech, emotion=f"{label} {intensity}", seed=seed)
        return look(self.portrait, list(animation.frames()), self._tracker)

    def _blank(self, seed: int) -> Render:
        """The face speaking with no expression at all, not even that of its picture."""
        motion = Motion.concatenate(list(speaker("emodiff", Style.neutral(), seed)(self.speech)))
        animation = animate(self.portrait, self.speech, motion=motion)
        return look(self.portrait, list(animation.frames()), self._tracker)

    def _examples(self, talk: Motion, variants: int, rng: np.random.Generator) -> Mesh:
        """Mean meshes ``[8, variants, 478, 3]`` of stills of a talking face with variants of each label over it."""
        faces = np.stack([[rng.uniform(0.3, 1.3) * variant(label, rng) for _ in range(variants)] for label in EMOTIONS])
        drawn = rng.integers(0, len(talk), (*faces.shape[:2], STILLS))
        motion = lay_over(talk.coefficients[drawn], faces[:, :, None].clip(0, 1)).reshape(-1, len(ARKIT))
        animation = animate(self.portrait, motion=Motion(motion, talk.head[drawn.ravel()]))
        self._tracker.reset()
        found = [self._tracker(frame) for frame in animation.frames()]
        lost = np.full(self.portrait.landmarks.shape, np.nan)
        points = face_space(self.portrait, np.stack([lost if face is None else face.landmarks for face in found]))
        return np.nanmean(points.reshape(*drawn.shape, *points.shape[1:]), 2)


class Nearest:
    """The label whose examples moved the mesh most nearly the same way, or neutral.

    Args:
        learnt: displacements ``[8, V, 478, 3]``.
        least: weighted length of a displacement under which the face counts as neutral.
    """

    def __init__(self, learnt: Mesh, least: float) -> None:
        means = weigh(learnt[1:]).mean(1)
        self._ways, self._least = means / np.linalg.norm(means, axis=1, keepdims=True), least

    def __call__(self, moved: Mesh) -> NDArray[np.int64]:
        """Places in ``EMOTIONS`` of displacements ``[N, 478, 3]``."""
        shown = weigh(moved)
        return np.where(np.linalg.norm(shown, axis=1) < self._least, 0, 1 + (shown @ self._ways.T).argmax(1))


class Classifier:
    """Multinomial logistic regression on the principal components of displacements.

    Args:
        learnt: displacements ``[8, V, 478, 3]``.
    """

    COMPONENTS = 24

    def __init__(self, learnt: Mesh) -> None:
        inputs = weigh(learnt).reshape(-1, weigh(learnt).shape[-1])
        self._mean = inputs.mean(0)
        self._basis = np.linalg.svd(inputs - self._mean, full_matrices=False)[2][: self.COMPONENTS]
        self._unit = ((inputs - self._mean) @ self._basis.T).std()
        torch.manual_seed(0)
        self._layer = torch.nn.Linear(self.COMPONENTS, len(EMOTIONS))
        x, y = self._components(inputs), torch.arange(len(EMOTIONS)).repeat_interleave(learnt.shape[1])
        optimiser = torch.optim.LBFGS(self._layer.parameters(), max_iter=300)

        def loss() -> torch.Tensor:
            optimiser.zero_grad()
            value = torch.nn.functional.cross_entropy(self._layer(x), y) + 1e-3 * self._layer.weight.square().sum()
            value.backward()
            return value

        optimiser.step(loss)  # type: ignore[arg-type]

    def __call__(self, moved: Mesh) -> NDArray[np.int64]:
        """Places in ``EMOTIONS`` of displacements ``[N, 478, 3]``."""
        with torch.inference_mode():
            return self._layer(self._components(weigh(moved))).argmax(1).numpy()

    def _components(self, inputs: NDArray[np.float64]) -> torch.Tensor:
        return torch.from_numpy(((inputs - self._mean) @ self._basis.T / self._unit).astype(np.float32))


def weigh(moved: Mesh) -> NDArray[np.float64]:
    """Displacements ``[..., 478, 3]`` as rows in which each point counts as in the rig's fits; gaze does not."""
    weights = np.sqrt(point_weights())
    weights[468:] = 0
    return (moved * weights).reshape(*moved.shape[:-2], -1)


def recover(stages: list[Stage]) -> tuple[list[Row], list[list[Render]]]:
    """Figures of all labels at all intensities on all faces, and the renders: one row a label."""
    renders = [
        [
            stage.play(label, intensity, seed=100 * i + 10 * k + asked)
            for i, stage in enumerate(stages)
            for k, intensity in enumerate(INTENSITIES)
        ]
        for asked, label in enumerate(EMOTIONS)
    ]
    least = 1.5 * max(np.linalg.norm(weigh(moved)) for stage in stages for moved in stage.calibration)
    rows = []
    for way, learn in {"nearest": lambda learnt: Nearest(learnt, least), "classifier": Classifier}.items():
        judges = [learn(stage.learnt) for stage in stages]
        counts = np.zeros((len(EMOTIONS), len(EMOTIONS)), int)
        for asked, line in enumerate(renders):
            for column, render in enumerate(line):
                i = column // len(INTENSITIES)
                counts[asked, judges[i](render.mesh[None] - stages[i].reference)[0]] += 1
        print_confusion(way, counts)
        share, name = counts.trace() / counts.sum(), f"emotion recovered from the rendered video, {way}"
        rows.append(row(name, share, f"of {counts.sum()}", f">= {RECOVERED}", share >= RECOVERED))
        rows += [row(f"{name}: {label}", counts[i, i] / counts[i].sum()) for i, label in enumerate(EMOTIONS)]
        known = [_share_known(judge, stage.held) for judge, stage in zip(judges, stages, strict=True)]
        rows.append(row(f"presets' variants laid over by hand, held out, {way}", float(np.mean(known)), "share"))
    return rows, renders


def _share_known(judge: Callable[[Mesh], NDArray[np.int64]], held: Mesh) -> float:
    labels = np.arange(len(held)).repeat(held.shape[1])
    return float((judge(held.reshape(-1, *held.shape[2:])) == labels).mean())


def print_confusion(way: str, counts: NDArray[np.int64]) -> None:
    """What was asked for, down, and what was seen, across."""
    table = Table("asked \\ seen", *EMOTIONS, title=f"Recovered, {way}")
    for label, line in zip(EMOTIONS, counts, strict=True):
        table.add_row(label, *(str(n) if n else "" for n in line))
    Console(width=140).print(table)


def contact_sheet(renders: list[list[Render]], faces: int) -> NDArray[np.uint8]:
    """Emotions down; faces and their intensities across; uint8 RGB."""
    from PIL import Image, ImageDraw, ImageFont

    left, top = 110, 30
    size = left + TILE * faces * len(INTENSITIES), top + TILE * len(renders)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(16)
    for r, (label, line) in enumerate(zip(EMOTIONS, renders, strict=True)):
        draw.text((left - 8, top + (r + 0.5) * TILE), label, "black", font, anchor="rm")
        for c, render in enumerate(line):
            sheet.paste(Image.fromarray(render.picture), (left + c * TILE, top + r * TILE))
    for c in range(faces * len(INTENSITIES)):
        place = (left + (c + 0.5) * TILE, top - 6)
        draw.text(place, f"{INTENSITIES[c % len(INTENSITIES)]:g}", "black", font, anchor="mb")
    return np.asarray(sheet)


def judge_lips(networks: Networks, clips: list[Sample]) -> list[Row]:
    """How the lips' correlation changes under each emotion."""
    rig = Rig.load()
    found = {}
    for label in EMOTIONS:
        drive = networks.drive(Style.emotion(label))
        found[label] = lip_correlations((motion_of(drive, clip.samples) for clip in clips), clips, rig)
    table = Table("emotion", *MEASURES, "mean", title=f"Lips beside the real ones of {len(clips)} clips, r")
    for label, by_measure in found.items():
        values = [*by_measure.values(), float(np.mean(list(by_measure.values())))]
        table.add_row(label, *(f"{value:.3f}" for value in values))
    Console(width=140).print(table)
    drops = {
        label: {name: found["neutral"][name] - by_measure[name] for name in MEASURES}
        for label, by_measure in found.items()
        if label != "neutral"
    }
    rows = []
    for name in MEASURES:
        rows.append(row(f"{name}, neutral", found["neutral"][name], "r"))
        drop = float(np.mean([by_measure[name] for by_measure in drops.values()]))
        rows.append(row(f"{name}, lost under emotions (mean)", drop, "r", f"<= {DROP}", drop <= DROP))
    for label, by_measure in drops.items():
        drop = float(np.mean(list(by_measure.values())))
        rows.append(row(f"lips, lost under {label} (mean of the three)", drop, "r", f"<= {DROP}", drop <= DROP))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_options(parser)
    add_weights_options(parser)
    folder = data_folder() / "portraits"
    faces = [folder / "nasa_astronaut_eileen_collins.png", folder / "LivePortrait__s9.jpg"]
    parser.add_argument("--portrait", type=Path, nargs="+", default=faces, help="who speaks")
    parser.add_argument("--speech", type=Path, help="what they say; a sentence of the bundled voice by default")
    parser.add_argument("--pixels", type=int, default=320, help="of a rendered frame's longer side")
    parser.add_argument("--sheet", type=Path, default=Path("docs/emotions.png"), help="where the contact sheet goes")
    parser.add_argument("--only", choices=("renders", "lips"), help="one half of it")
    add_json_option(parser)
    options = parser.parse_args()
    begun = time.perf_counter()
    rows: list[Row] = []
    if options.only != "lips":
        speech = Speech.open(options.speech) if options.speech else Speech.say(SENTENCE)
        tracker = FaceTracker()
        portraits = [head_shot(Portrait.open(path), options.pixels) for path in options.portrait]
        made, renders = recover([Stage(portrait, speech, tracker) for portrait in portraits])
        rows += made
        cv2.imwrite(str(options.sheet), contact_sheet(renders, len(portraits))[..., ::-1])
        print(f"wrote {options.sheet}")
    if options.only != "renders":
        rows += judge_lips(Networks.load(options.weights, options.lips), read_clips(options))
    report("Emotions", rows, options.json)
    print(f"took {time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
