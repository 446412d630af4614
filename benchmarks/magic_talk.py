"""MAGIC-Talk's embedded tier, to be looked at and measured: portraits, beginnings, prompts.

    python benchmarks/magic_talk.py --data ../shared/data [--portraits 6] [--steps 25] [--json FILE]

writes ``docs/magic_talk.png``: for each publishable portrait the picture, its rig render, and what is generated from
the rig's frames under more and more noise and from noise alone; and ``docs/magic_talk_prompts.png``: the same faces
under prompts. Each is one segment of 16 frames of a spoken sentence, of which the sheets show the widest.

Figures, means over portraits: how far the generated frames keep the lips of the motion asked for (correlation of the
lip gap, landmarks found anew) and who it is (cosine of dlib's embeddings with the portrait's); and the share of prompts
that the picture obeys, judged by the same measures that wrote the captions (colour of background and hair), or by
the colours that are gone.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from clips import data_folder, manifest
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from skimage import data
from table import Row, add_json_option, report, row

from magictalk.drive.speakers import Drive, speaker
from magictalk.errors import MagicTalkError
from magictalk.face.landmarks import FaceDetector
from magictalk.face.person import person_mask
from magictalk.face.recognition import FaceRecogniser
from magictalk.face.rig import inner_lip_gap
from magictalk.metrics.functional.identity import cosine
from magictalk.metrics.functional.lips import pearson
from magictalk.motion import ARKIT, Motion
from magictalk.portrait import Portrait
from magictalk.render.diffusion import tiers
from magictalk.render.diffusion.caption import BACKGROUNDS, HAIR, hair_of, named
from magictalk.render.diffusion.fusion import FRAMES
from magictalk.render.diffusion.render import DiffusionRender, Drawing, Networks
from magictalk.speech import Speech
from magictalk.systems.magic_talk import drawing_of

SENTENCE = "Every picture has a voice. Give it one, and it will look you in the eye."
TILE = 192
STRENGTHS = (0.3, 0.5, 0.7)
PROMPTED = 0.8
"""How much noise covers the rig's frames where a prompt shall change the picture."""
PROMPTS = {
    "green background": "a photograph of a person in front of a green background",
    "red background": "a photograph of a person in front of a red background",
    "white background": "a photograph of a person in front of a white background",
    "blue background": "a photograph of a person in front of a blue background",
    "blond hair": "a photograph of a person with blond hair",
    "black hair": "a photograph of a person with black hair",
    "red hair": "a photograph of a person with red hair",
    "black and white": "a black and white photograph of a person",
    "pencil drawing": "a pencil drawing of a person",
    "cartoon": "a cartoon of a person",
}
Frames = Sequence[NDArray[np.uint8]]


def spoken(frames: int = FRAMES, drive: Drive = "variational") -> Motion:
    """The frames of the sentence in which the mouth moves most."""
    whole = Motion.concatenate(list(speaker(drive)(Speech.say(SENTENCE))))
    jaw = whole.coefficients[:, ARKIT.index("jawOpen")]
    spread = [float(jaw[i : i + frames].std()) for i in range(len(jaw) - frames)]
    first = int(np.argmax(spread))
    motion = whole[first : first + frames]
    return Motion(motion.coefficients, motion.head - motion.head[0], motion.fps)


class Judge:
    """What is seen in generated frames."""

    def __init__(self) -> None:
        self._detector, self._recogniser = FaceDetector(), FaceRecogniser()

    def gaps(self, frames: Frames) -> NDArray[np.float64]:
        """Lip gaps ``[T]`` over the distance between the eyes; NaN where no face is found."""
        return np.array([self._gap(frame) for frame in frames])

    def _gap(self, frame: NDArray[np.uint8]) -> float:
        mesh = self._mesh(frame)
        if mesh is None:
            return float("nan")
        return float(inner_lip_gap(mesh[None])[0] / np.linalg.norm(mesh[33, :2] - mesh[263, :2]))

    def likeness(self, frame: NDArray[np.uint8], portrait: Portrait) -> float:
        """Cosine of dlib's embeddings; NaN where no face is found."""
        mesh = self._mesh(frame)
        if mesh is None:
            return float("nan")
        large = cv2.resize(frame, portrait.image.shape[1::-1], interpolation=cv2.INTER_CUBIC)
        scale = np.float32(portrait.image.shape[0] / frame.shape[0])
        own = self._recogniser(portrait.image, portrait.landmarks)
        return float(cosine(self._recogniser(large, mesh * scale)[None], own)[0])

    def obeys(self, frame: NDArray[np.uint8], asked: str) -> bool:
        """Whether a frame shows what a prompt of :data:`PROMPTS` asks for."""
        if asked in ("black and white", "pencil drawing"):
            return float(np.ptp(frame.astype(int), axis=-1).mean()) < 12
        if asked == "cartoon":  # flat areas between lines: few of the pixels differ from their neighbours, those much
            step = np.abs(np.diff(frame.mean(-1), axis=1))
            return float(np.quantile(step, 0.5) / (step.mean() + 1e-6)) < 0.25
        colour, _, what = asked.partition(" ")
        mesh = self._mesh(frame)
        side = frame.shape[0]
        person = cv2.resize(person_mask(frame), (side, side), interpolation=cv2.INTER_AREA)
        if what == "background":
            where = person < 0.2
            return bool(where.any()) and named(np.median(frame[where], axis=0), BACKGROUNDS) == colour
        if mesh is None:
            return False
        where = hair_of(mesh[:, :2], person) > 0.7
        return bool(where.any()) and named(np.median(frame[where], axis=0), HAIR) == colour

    def _mesh(self, frame: NDArray[np.uint8]) -> NDArray[np.float32] | None:
        faces = self._detector(cv2.resize(frame, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC))
        return max(faces, key=lambda f: f.box[2]).landmarks / np.float32(3) if faces else None


def agreement(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Correlation of two series where both are known; NaN where hardly anything is."""
    known = np.isfinite(a) & np.isfinite(b)
    return pearson(a, b, known) if known.sum() > FRAMES // 2 else float("nan")


def drawn(portrait: Portrait, motion: Motion, drawing: Drawing, networks: Networks) -> Frames:
    """The frames of one segment."""
    return list(DiffusionRender(portrait, drawing, networks)([motion]))


def portraits_of(folder: Path, most: int) -> list[Portrait]:
    """The astronaut, then publishable photographs whose faces are found."""
    found = [Portrait.from_array(data.astronaut())]
    for entry in manifest(folder, "portrait"):
        if len(found) == most:
            break
        if entry["publishable"].startswith("yes"):
            try:
                found.append(Portrait.open(folder / entry["file"]))
            except MagicTalkError:
                continue
    return found


def sheet(path: Path, rows: Sequence[Frames]) -> None:
    """Pictures in rows, all of one size."""
    tiles = [[cv2.resize(t, (TILE, TILE), interpolation=cv2.INTER_CUBIC) for t in tiles] for tiles in rows]
    path.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(path), np.vstack([np.hstack(row) for row in tiles])[..., ::-1])
    print(f"wrote {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=data_folder())
    parser.add_argument("--portraits", type=int, default=6)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--weights", type=Path, help="a folder with vae, reference and animate, not the package's")
    add_json_option(parser)
    options = parser.parse_args()
    folder = options.weights
    networks = tiers.nano(folder / "vae", folder / "reference", folder / "animate") if folder else tiers.nano()
    judge, motion = Judge(), spoken()
    widest = int(motion.coefficients[:, ARKIT.index("jawOpen")].argmax())
    found: dict[str, list[float]] = {}
    beginnings, prompted = [], []
    for portrait in track(portraits_of(options.data, options.portraits), console=Console(stderr=True)):
        basic = drawing_of(steps=options.steps)
        render = DiffusionRender(portrait, basic, networks)
        rig = [render.rig.draw(c, h) for c, h in zip(motion.coefficients, motion.head, strict=True)]
        asked = judge.gaps(rig)
        tiles = [render.portrait.image, rig[widest]]
        cases = {"noise": replace(basic, init="noise")}
        for s in reversed(STRENGTHS):
            cases = {f"rig, strength {s:g}": replace(basic, sampling=replace(basic.sampling, strength=s)), **cases}
        for name, drawing in cases.items():
            frames = drawn(portrait, motion, drawing, networks)
            found.setdefault(f"{name}: lip gap", []).append(agreement(judge.gaps(frames), asked))
            found.setdefault(f"{name}: likeness", []).append(judge.likeness(frames[widest], render.portrait))
            tiles.append(frames[widest])
        beginnings.append(tiles)
        tiles = [render.portrait.image]
        strong = replace(basic.sampling, strength=PROMPTED)
        for name, prompt in PROMPTS.items():
            frames = drawn(portrait, motion, replace(basic, prompt=prompt, sampling=strong), networks)
            found.setdefault(f"obeyed: {name}", []).append(judge.obeys(frames[widest], name))
            tiles.append(frames[widest])
        prompted.append(tiles)
    sheet(Path("docs/magic_talk.png"), beginnings)
    sheet(Path("docs/magic_talk_prompts.png"), prompted)
    report("MAGIC-Talk, embedded tier", rows_of(found), options.json)


def rows_of(found: dict[str, list[float]]) -> list[Row]:
    """Means over portraits."""
    units = {"lip gap": "r", "likeness": "cosine", "change": "levels"}
    rows = []
    for name, values in found.items():
        kept = [v for v in values if np.isfinite(v)]
        unit = next((u for end, u in units.items() if name.endswith(end)), "share")
        rows.append(row(f"{name} ({len(kept)})", float(np.mean(kept)) if kept else float("nan"), unit))
    obeyed = [v for name, values in found.items() if name.startswith("obeyed") for v in values]
    if obeyed:
        rows.append(row("prompts obeyed", float(np.mean(obeyed)), "share"))
    return rows


if __name__ == "__main__":
    main()
