"""The paper's three ablations (MagicTalk, section 4.3): style embedding, initial state, lip refinement.

    python benchmarks/ablations.py --data out/dataset --work out/ablations [--picture FILE] [--json FILE]

Four equally small EmoDiffs are trained into the work folder, or taken up there: the whole one; one that is told the
emotion by a label, the same in every frame, and one that is told nothing, both without the positional style; and one
without the initial state. Windows are not eased into each other unless a row says so.

* Initial state: how far the face steps from one window to the next, beside its steps inside windows; 1 is seamless.
* Style: EMFACS emotions, each as several people may show it, are asked for over several sounds. A nearest-centroid
  classifier that has not met a person's way and seed tells the emotion from the mean face that comes out; and it is
  measured how near that face is to the very expression asked for, and whether to this rather than to other people's.
* Lip refinement: the networks that ship, with it and without, and Audio2BS alone, on real speech; the motion is judged
  before it is rendered, so that heads, which move differently, do not matter.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from drives import Networks, add_data_options, add_weights_options, lip_correlations, motion_of, read_clips
from numpy.typing import NDArray
from table import Row, add_json_option, report, row

from magictalk.data.dataset import Sample
from magictalk.drive.audio2bs import Audio2BSDrive
from magictalk.drive.emodiff import BLEND_FRAMES, EmoDiff, EmoDiffDrive
from magictalk.face.rig import Rig
from magictalk.motion import ARKIT, FPS, GROUPS, Motion
from magictalk.style import EMOTIONS, Style, variant
from magictalk.sync import SyncJudge
from magictalk.train.emodiff import Settings, run
from magictalk.train.loop import Schedule
from magictalk.train.sequences import gather

SMALL: dict[str, Any] = {"hidden": 128, "layers": 2}
TRAINED: dict[str, dict[str, Any]] = {
    "positional style": {},
    "label instead": {"style": "label"},
    "no style": {"style": "none"},
    "no initial state": {"start": False},
}
"""What each network is trained without; the first lacks nothing."""
WHOLE, *_, STATELESS = TRAINED
STYLED = list(TRAINED)[:3]

PARTS = {
    "brows": GROUPS["brows"],
    "lids": tuple(i for i in GROUPS["eyes"] if not ARKIT[i].startswith("eyeLook")),
    "lips": GROUPS["lips"],
    "head": tuple(range(len(ARKIT), len(ARKIT) + 6)),
}
"""Columns of a window's 58."""
SHOWN = [i for i, name in enumerate(ARKIT) if not name.startswith(("eyeLook", "eyeBlink"))]
"""Coefficients that may show an expression."""
ABOVE: dict[str, Any] = {"loc": "lower right", "bbox_to_anchor": (1, 1), "ncols": 4, "fontsize": 8, "frameon": False}
"""Where legends go."""
PEOPLE = 4
"""Ways to show each emotion, each with a seed of its own."""
SOUNDS, SOUND_S = 3, 6.0
"""Sounds over which emotions are asked for, and seconds of each."""
SETTLED_S = 2.5
"""From here on faces are judged: the first window's initial state shows the expression, told or not."""

Faces = NDArray[np.float32]


def networks_of(options: argparse.Namespace) -> dict[str, EmoDiff]:
    """The small networks, trained as far as they are not yet."""
    talks = gather(Path(options.data), "train", "val")
    made = {}
    for name, without in TRAINED.items():
        settings = Settings(**SMALL, **without, schedule=Schedule(options.steps, 4e-4))
        folder = Path(options.work) / name.replace(" ", "_")
        made[name] = run(settings, talks, folder, lambda line, name=name: print(f"{name}: {line}", flush=True))  # type: ignore[misc]
    return made


def windows_of(network: EmoDiff, samples: NDArray[np.float32], blend: int = 0) -> list[Faces]:
    """The frames ``[n, 58]`` that each window adds, under no emotion."""
    return list(EmoDiffDrive(network, Style.neutral(), blend=blend).windows(iter([samples])))


def border_ratios(clips: Sequence[Sequence[Faces]], spread: Faces) -> dict[str, float]:
    """Mean step at window borders over mean step inside windows, of each part of the face.

    Args:
        clips: the windows ``[n, 58]`` of each clip.
        spread: ``[58]``, by which values are divided, so that they count alike.
    """
    at_borders, inside = [], []
    for windows in clips:
        steps = np.abs(np.diff(np.concatenate(windows), axis=0)) / spread
        border = np.zeros(len(steps), bool)
        border[np.cumsum([len(window) for window in windows])[:-1] - 1] = True
        at_borders.append(steps[border])
        inside.append(steps[~border])
    far, near = np.concatenate(at_borders), np.concatenate(inside)
    return {name: float(far[:, list(c)].mean() / near[:, list(c)].mean()) for name, c in PARTS.items()}


def state_rows(networks: dict[str, EmoDiff], clips: Sequence[Sample]) -> list[Row]:
    """Figures of the initial state."""
    cases = {
        "with the initial state": (networks[WHOLE], 0),
        "without": (networks[STATELESS], 0),
        "with it, and eased as the drive does": (networks[WHOLE], BLEND_FRAMES),
    }
    rows = []
    for case, (network, blend) in cases.items():
        windows = [windows_of(network, clip.samples, blend) for clip in clips]
        for part, ratio in border_ratios(windows, network.std.numpy()).items():
            rows.append(row(f"step at window borders over steps inside, {part}, {case}", ratio, "x"))
    return rows


def asked_faces() -> Faces:
    """The expressions ``[8, PEOPLE, 52]`` that are asked for."""
    return np.stack([[variant(label, np.random.default_rng([7, p])) for p in range(PEOPLE)] for label in EMOTIONS])


def shown_faces(network: EmoDiff, asked: Faces, sounds: Sequence[NDArray[np.float32]]) -> Faces:
    """The mean faces ``[8, PEOPLE, SOUNDS, 44]`` that come out, the seed being the person's number."""
    return np.array(
        [
            [
                [_mean_face(EmoDiffDrive(network, Style.still(face), seed=p), sound) for sound in sounds]
                for p, face in enumerate(people)
            ]
            for people in asked
        ]
    )


def _mean_face(drive: EmoDiffDrive, sound: NDArray[np.float32]) -> Faces:
    return motion_of(drive, sound).coefficients[round(SETTLED_S * FPS) :, SHOWN].mean(0)


def separability(shown: Faces) -> float:
    """Share of faces ``[8, P, S, K]`` whose emotion the nearest centroid of the other people's tells."""
    right = []
    for p in range(shown.shape[1]):
        others = np.delete(shown, p, 1)
        centres = others.mean((1, 2))
        within = (others - centres[:, None, None]).std((0, 1, 2)) + 0.01
        away = (((shown[:, p, :, None] - centres) / within) ** 2).sum(-1)  # [8, S, 8]
        right.append(away.argmin(-1) == np.arange(len(shown))[:, None])
    return float(np.mean(right))


def nearness(shown: Faces, asked: Faces) -> tuple[float, float]:
    """How near faces ``[8, P, S, K]`` are to the expressions asked for, ``[8, P, K]``; neutral left out.

    Returns:
        The mean cosine of what is shown beyond neutral with what was asked for; and the share of faces that, among the
        ways to show their emotion, are nearest to the one asked for.
    """
    beyond = shown[1:] - shown[:1]
    wanted = np.broadcast_to(asked[1:, :, None], beyond.shape)
    cosine = float(_cosine(beyond, wanted).mean())
    own, ways = beyond - beyond.mean(1, keepdims=True), asked[1:] - asked[1:].mean(1, keepdims=True)
    to_each = _cosine(own[:, :, :, None], ways[:, None, None])  # [7, P, S, P]
    return cosine, float((to_each.argmax(-1) == np.arange(asked.shape[1])[:, None]).mean())


def _cosine(a: Faces, b: Faces) -> Faces:
    size = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return (a * b).sum(-1) / np.maximum(size, 1e-9)


def style_rows(networks: dict[str, EmoDiff], sounds: Sequence[NDArray[np.float32]]) -> list[Row]:
    """Figures of the style's embedding."""
    asked, rows = asked_faces(), []
    for name in STYLED:
        shown = shown_faces(networks[name], asked, sounds)
        cosine, own = nearness(shown, asked[..., SHOWN])
        rows.append(row(f"emotion told from the faces made, {name}", separability(shown), "share (chance 0.125)"))
        rows.append(row(f"cosine with the expression asked for, {name}", cosine))
        rows.append(row(f"nearest to the way asked for, {name}", own, f"share (chance {1 / PEOPLE:g})"))
    return rows


def lip_rows(networks: Networks, clips: Sequence[Sample]) -> list[Row]:
    """Figures of the lip refinement, as the paper's table 4: with, without, and the real lips."""
    rig, judge = Rig.load(), SyncJudge.load()
    drives: dict[str, EmoDiffDrive | Audio2BSDrive] = {
        "refined": networks.drive(Style.neutral()),
        "not refined": networks.drive(Style.neutral(), refine=False),
        "Audio2BS alone": networks.neutral,
    }
    made = {name: [motion_of(drive, clip.samples) for clip in clips] for name, drive in drives.items()}
    made["real"] = [clip.motion for clip in clips]
    figures = {name: _lip_figures(motions, clips, rig, judge) for name, motions in made.items()}
    rows = []
    for figure, refined in figures["refined"].items():
        sign = -1 if figure == "Sync-D" else 1
        best = all(sign * refined >= sign * figures[other][figure] for other in list(drives)[1:])
        for name, values in figures.items():
            goal = ("no worse than the two below", best) if name == "refined" else (None, None)
            rows.append(row(f"{figure}, {name}", values[figure], "" if figure.startswith("Sync") else "r", *goal))
    return rows


def _lip_figures(motions: Iterable[Motion], clips: Sequence[Sample], rig: Rig, judge: SyncJudge) -> dict[str, float]:
    motions = list(motions)
    heard = [judge.of_coefficients(m.coefficients, c.samples) for m, c in zip(motions, clips, strict=True)]
    return lip_correlations(motions, clips, rig) | {
        "Sync-C": float(np.mean([sync.confidence for sync in heard])),
        "Sync-D": float(np.mean([sync.distance for sync in heard])),
    }


def draw(networks: dict[str, EmoDiff], clip: Sample, rows: list[Row], path: Path) -> None:
    """Head and brows over time with window borders, with the initial state and without; and how styles come through."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8), layout="constrained")
    grid = figure.add_gridspec(3, 1, height_ratios=[1, 1, 1.1])
    curves = {
        "head yaw (degrees)": lambda x: np.degrees(x[:, len(ARKIT) + 1]),
        "inner brows raised": lambda x: x[:, ARKIT.index("browInnerUp")],
    }
    made = {"with the initial state": networks[WHOLE], "without": networks[STATELESS]}
    windows = {name: windows_of(network, clip.samples) for name, network in made.items()}
    for i, (label, take) in enumerate(curves.items()):
        axes = figure.add_subplot(grid[i])
        for name, parts in windows.items():
            motion = np.concatenate(parts)
            axes.plot(np.arange(len(motion)) / FPS, take(motion), label=name, lw=1.3)
        for border in np.cumsum([len(part) for part in windows["without"]])[:-1]:
            axes.axvline((border - 0.5) / FPS, color="0.75", lw=0.8, zorder=0)
        axes.set(ylabel=label, xlabel="s; grey: window borders", xmargin=0)
        axes.legend(**ABOVE)
        axes.set_xlim(0, min(12.0, len(motion) / FPS))
    axes = figure.add_subplot(grid[2])
    measures = {
        "emotion told from the faces made": "emotion told from\nthe faces made",
        "cosine with the expression asked for": "cosine with the\nexpression asked for",
        "nearest to the way asked for": "nearest to the\nway asked for",
    }
    values = {r["figure"]: r["value"] for r in rows}
    for k, name in enumerate(STYLED):
        heights = [values[f"{measure}, {name}"] for measure in measures]
        bars = axes.bar(np.arange(3) + 0.27 * (k - 1), heights, 0.25, label=name)
        axes.bar_label(bars, fmt="%.2f", fontsize=8)
    axes.hlines([1 / len(EMOTIONS), 1 / PEOPLE], [-0.45, 1.55], [0.45, 2.45], "k", "dotted", label="chance")
    axes.set(ylim=(min(0, axes.get_ylim()[0]), 1.1))
    axes.set_xticks(range(3), list(measures.values()))
    axes.legend(**ABOVE)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_options(parser)
    add_weights_options(parser)
    parser.add_argument("--work", required=True, help="where the small networks are trained")
    parser.add_argument("--steps", type=int, default=3000, help="of their training")
    parser.add_argument("--picture", type=Path, default=Path("docs/ablations.png"), help="where the curves go")
    add_json_option(parser)
    options = parser.parse_args()
    begun = time.perf_counter()
    networks = networks_of(options)
    clips = read_clips(options)
    longest = sorted(clips, key=lambda clip: -len(clip))
    sounds = [clip.samples[: round(16000 * SOUND_S)] for clip in longest[:SOUNDS]]
    rows = state_rows(networks, clips) + style_rows(networks, sounds)
    draw(networks, longest[0], rows, options.picture)
    print(f"wrote {options.picture}")
    rows += lip_rows(Networks.load(options.weights, options.lips), clips)
    report("Ablations", rows, options.json)
    print(f"took {time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
