"""Expression tokens of acted speech, by emotion, with MCDM's motion prior and without (the paper's figure 6).

    python benchmarks/clusters.py [--data ../shared/data] [--picture docs/motion_tokens.png] [--json FILE]

Actors of RAVDESS say a sentence each, with an emotion; the networks never heard them. With the prior: the expression
tokens that it predicts. Without: what it is given of the same frames' sound. Both are means over half a second.
How well windows of one emotion lie together: the silhouette (-1 to 1, more is tighter) in the space of the
tokens, each number brought to a spread of 1, and how often the nearest windows of other actors are of the same emotion
(against what chance gives). The picture is t-SNE of both.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from clips import data_folder, manifest
from numpy.typing import NDArray
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_score
from sklearn.neighbors import NearestNeighbors
from table import Row, add_json_option, report, row

from magictalk import weights
from magictalk.drive.audio2bs import Audio2BSDrive
from magictalk.drive.motion_prior import SHIPPED, STREAMS, MotionPrior, MotionPriorDrive, MotionTokens, rows_of
from magictalk.speech import Speech

WINDOW = 12
"""Frames of a mean."""
SEEDS = 8
"""Draws of which the tokens are means, a clip's own: windows would resemble those of other clips by their noise."""
NEIGHBOURS = 5
EXPRESSION = list(STREAMS).index("expression")


def windows(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Means ``[n, W]`` of rows ``[T, W]`` over half a second; what is left at the end is dropped."""
    n = len(rows) // WINDOW
    return rows[: n * WINDOW].reshape(n, WINDOW, -1).mean(1)


def emotion_of(notes: str) -> str:
    """``"calm"`` of the manifest's ``"emotion=calm strong; ..."``."""
    return notes.partition("emotion=")[2].split()[0].strip(";,")


def heard(options: argparse.Namespace) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.str_], NDArray[np.str_]]:
    """Windows with and without the prior, of all clips; their emotions; their actors."""
    folder = options.weights
    names = [folder / part for part in ("tokens", "prior")] if folder else SHIPPED
    tokens, prior, ear = weights.load(MotionTokens, names[0]), weights.load(MotionPrior, names[1]), Audio2BSDrive.load()
    found: dict[str, list[NDArray[np.float32]]] = {"with the prior": [], "without": []}
    emotions, actors = [], []
    for entry in manifest(options.data, "speech"):
        if not entry["identity"].startswith("ravdess"):
            continue
        samples = Speech.open(options.data / entry["file"]).samples()
        made = []
        first = SEEDS * len(found["without"])
        for seed in range(first, first + SEEDS):
            drive = MotionPriorDrive(tokens, prior, ear, seed=seed)
            made.append(torch.cat(list(drive.token_stream(iter([samples]))))[:, EXPRESSION].numpy())
        ours = windows(np.mean(made, 0))
        theirs = windows(np.concatenate(list(rows_of(ear, iter([samples])))))
        loud = theirs[:, -1] > 0.5  # silence has no emotion
        found["with the prior"].append(ours[loud])
        found["without"].append(theirs[loud])
        emotions += [emotion_of(entry["notes"])] * int(loud.sum())
        actors += [entry["identity"]] * int(loud.sum())
    spread = {name: np.concatenate(rows) for name, rows in found.items()}
    spread = {name: (rows - rows.mean(0)) / (rows.std(0) + 1e-6) for name, rows in spread.items()}
    return spread, np.array(emotions), np.array(actors)


def agreement(rows: NDArray[np.float32], emotions: NDArray[np.str_], actors: NDArray[np.str_]) -> float:
    """How many of the nearest windows of other actors are of the same emotion, less what chance gives."""
    shares = []
    for i in range(len(rows)):
        others = np.flatnonzero(actors != actors[i])
        nearest = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(rows[others]).kneighbors(rows[i : i + 1])[1][0]
        same = emotions[others] == emotions[i]
        shares.append(same[nearest].mean() - same.mean())
    return float(np.mean(shares))


def plot(spread: dict[str, NDArray[np.float32]], emotions: NDArray[np.str_], path: Path) -> None:
    """t-SNE of both, coloured by emotion."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5), layout="constrained")
    for axes, (name, rows) in zip(figure.subplots(1, 2), spread.items(), strict=True):
        flat = TSNE(perplexity=15, random_state=0, init="pca").fit_transform(rows)
        for emotion in sorted(set(emotions)):
            here = emotions == emotion
            axes.scatter(*flat[here].T, s=14, label=emotion)
        axes.set(title=name, xticks=[], yticks=[])
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=data_folder())
    parser.add_argument("--picture", type=Path, default=Path("docs/motion_tokens.png"))
    parser.add_argument("--weights", type=Path, help="a folder with tokens and prior, not the package's")
    add_json_option(parser)
    options = parser.parse_args()
    spread, emotions, actors = heard(options)
    rows: list[Row] = []
    for name, values in spread.items():
        score = float(silhouette_score(values, emotions))
        rows += [
            row(f"{name}: silhouette by emotion ({len(values)} windows)", score),
            row(f"{name}: neighbours of one emotion, over chance", agreement(values, emotions, actors), "share"),
        ]
    tighter = rows[0]["value"] > rows[2]["value"]
    rows.append(row("silhouette gained by the prior", rows[0]["value"] - rows[2]["value"], "", "> 0", tighter))
    plot(spread, emotions, options.picture)
    report("clusters of expression", rows, options.json)


if __name__ == "__main__":
    main()
