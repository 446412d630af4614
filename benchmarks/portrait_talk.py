"""PortraitTalk's embedded tier, to be looked at and measured: references, two people, prompts against references.

    python benchmarks/portrait_talk.py --data ../shared/data [--portraits 5] [--steps 12] [--json FILE]

writes three sheets. ``docs/portrait_talk.png``: for each publishable portrait the picture, its rig render, what is
generated from the rig's frames, from noise, and on the way to the person among them who is least alike.
``docs/portrait_talk_weights.png`` (the paper's IV-H): a prompt that contradicts the picture, under growing weights of
the prompt from left to right and of who it is from top to bottom. ``docs/portrait_talk_prompts.png`` (IV-I):
expression, age, gender, hair, background, style. Each is the sixteen frames of a spoken sentence in which the mouth
moves most; sheets show the widest.

Figures are means over portraits: the lips against the motion asked for (correlation of the gap, landmarks found anew),
the likeness to the portrait and, on the way to another person, to that one (cosine of dlib's embeddings), the pixels'
change from frame to frame.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from clips import data_folder
from magic_talk import Frames, Judge, agreement, portraits_of, rows_of, sheet, spoken
from PIL import Image
from rich.console import Console
from rich.progress import track
from table import add_json_option, report

from magictalk.motion import ARKIT, Motion
from magictalk.portrait import Portrait
from magictalk.render.diffusion import tiers
from magictalk.render.diffusion.identity import embedding_of, likeness
from magictalk.render.diffusion.portraits import PortraitDrawing, PortraitRender
from magictalk.render.diffusion.render import Networks
from magictalk.systems.portrait_talk import drawing_of

SHARES = (0.3, 0.6, 1.0)
"""How far the way to the next person is gone."""
CONFLICT = "a photograph of a person with red hair in front of a blue background"
WEIGHTS = (0.0, 0.5, 1.0, 2.0)
PROMPTED = 0.8
"""How much noise covers the rig's frames where a prompt shall change the picture."""
GUIDANCE = 4.0
"""How strictly the prompt is followed there."""
PROMPTS = {
    "expression": "a photograph of a smiling person",
    "age": "a photograph of an old person with grey hair",
    "gender": "a photograph of a man",
    "hair": "a photograph of a person with blond hair",
    "background": "a photograph of a person in front of a green background",
    "light": "a photograph of a person in warm light",
    "style: drawing": "a pencil drawing of a person",
    "style: cartoon": "a cartoon of a person",
}


def drawn(portrait: Portrait, motion: Motion, drawing: PortraitDrawing, networks: Networks) -> Frames:
    """The frames of a sentence."""
    return list(PortraitRender(portrait, drawing, networks)([motion]))


def change(frames: Frames) -> float:
    """Mean change of pixels from frame to frame."""
    return float(np.abs(np.diff(np.stack(frames).astype(int), axis=0)).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=data_folder())
    parser.add_argument("--portraits", type=int, default=5)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--weights", type=Path, help="a folder with identity and animate, not the package's")
    add_json_option(parser)
    options = parser.parse_args()
    own = [options.weights / part for part in ("identity", "animate")] if options.weights else []
    networks = tiers.nano_portrait(*own)
    judge, motion = Judge(), spoken()
    widest = int(motion.coefficients[:, ARKIT.index("jawOpen")].argmax())
    portraits = portraits_of(options.data, options.portraits)
    embeddings = [embedding_of(each, networks.embed) for each in portraits]
    found: dict[str, list[float]] = {}
    people, prompted, weighed = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{i}.png" for i in range(len(portraits))]
        for file, portrait in zip(files, portraits, strict=True):
            Image.fromarray(portrait.image).save(file)
        for i, portrait in enumerate(track(portraits, console=Console(stderr=True))):
            alike = [likeness(embeddings[i], each) for each in embeddings]
            other, file = portraits[int(np.argmin(alike))], files[int(np.argmin(alike))]
            cases: Mapping[str, PortraitDrawing] = {
                "rig": drawing_of(steps=2 * options.steps),
                "noise": drawing_of(init="noise", steps=options.steps),
                **{
                    f"{share:.0%} of another": drawing_of(steps=2 * options.steps, portraits=[file], blend=str(share))
                    for share in SHARES
                },
            }
            render = PortraitRender(portrait, cases["rig"], networks)
            rig = [render.rig.draw(c, h) for c, h in zip(motion.coefficients, motion.head, strict=True)]
            asked = judge.gaps(rig)
            tiles = [render.portrait.image, rig[widest]]
            for name, drawing in cases.items():
                frames = drawn(portrait, motion, drawing, networks)
                found.setdefault(f"{name}: lip gap", []).append(agreement(judge.gaps(frames), asked))
                found.setdefault(f"{name}: likeness", []).append(judge.likeness(frames[widest], portrait))
                if "another" in name:
                    found.setdefault(f"{name}: theirs, likeness", []).append(judge.likeness(frames[widest], other))
                found.setdefault(f"{name}: change", []).append(change(frames))
                tiles.append(frames[widest])
            people.append(tiles)
            prompted.append([render.portrait.image, *(
                drawn(portrait, motion, drawing_of(prompt, strength=PROMPTED, steps=options.steps, guidance=GUIDANCE),
                      networks)[widest]
                for prompt in PROMPTS.values()
            )])  # fmt: skip
        for identity in WEIGHTS:
            row = []
            for text in WEIGHTS:
                drawing = drawing_of(CONFLICT, init="noise", steps=options.steps, text_weight=text,
                                     identity_weight=identity)  # fmt: skip
                row.append(drawn(portraits[0], motion, drawing, networks)[widest])
            weighed.append(row)
    sheet(Path("docs/portrait_talk.png"), people)
    sheet(Path("docs/portrait_talk_prompts.png"), prompted)
    sheet(Path("docs/portrait_talk_weights.png"), weighed)
    report("PortraitTalk, embedded tier", rows_of(found), options.json)


if __name__ == "__main__":
    main()
