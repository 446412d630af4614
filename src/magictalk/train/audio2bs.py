"""Train Audio2BS: phonemes of synthetic speech first, then real lips, sound and picture aligned in between.

    magictalk data build ../shared/data/videos -o out/dataset
    python -m magictalk.train.audio2bs --data out/dataset --work out/audio2bs -o out/weights

Everything slow is kept in the work folder and taken up again. Only the dataset's ``train`` clips teach; ``val``
is scored as training goes.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from magictalk import weights
from magictalk.audio.features import MELS_PER_FRAME, SILENCE, features
from magictalk.data.dataset import Dataset
from magictalk.data.voices import Utterance, utterances
from magictalk.drive.audio2bs import LIPS, Audio2BS, activate
from magictalk.errors import MagicTalkError
from magictalk.face.rig import Rig
from magictalk.metrics.functional.lips import delay, find_offset, pearson
from magictalk.train.crops import RealCrops, SpokenCrops, fit
from magictalk.train.lips import Example, LipLoss, example_of, measure, normalise, scale_of
from magictalk.train.sequences import balance

SHARES = {"people": 0.55, "generated": 0.35, "one": 0.1}
"""How much of training each kind of clip makes: 300 clips of one speaker must not drown the others."""


@dataclass(frozen=True)
class Settings:
    """What a run can change; the defaults trained the weights that ship."""

    hidden: int = 128
    layers: int = 2
    dropout: float = 0.3
    members: int = 2
    utterances: int = 1800
    pretrain_steps: int = 2300
    pretrain_rate: float = 3e-3
    steps: int = 350
    rate: float = 1e-3
    weight_decay: float = 1e-2
    batch: int = 16
    spoken_batch: int = 8
    phoneme_weight: float = 0.3
    spoken_weight: float = 0.45
    head: int = 16
    seed: int = 0


def phoneme_loss(logits: Tensor, visemes: Tensor) -> Tensor:
    """Cross entropy with soft classes ``[B, T, 21]``."""
    return -(visemes * nn.functional.log_softmax(logits, -1)).sum(-1).mean()


def descend(
    network: nn.Module, loss: Callable[[], Tensor], steps: int, rate: float, decay: float,
    each: Callable[[int, float], None] = lambda step, value: None,
) -> None:  # fmt: skip
    """AdamW on a one-cycle schedule with clipped gradients; ``each`` hears the step and its loss."""
    optimiser = torch.optim.AdamW(network.parameters(), rate, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, steps, pct_start=0.1)
    network.train()
    for step in range(1, steps + 1):
        value = loss()
        optimiser.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        each(step, float(value.detach()))


def pretrain(settings: Settings, crops: SpokenCrops, log: Callable[[str], None]) -> Audio2BS:
    """One member that tells visemes of synthetic speech apart."""
    network = Audio2BS(hidden=settings.hidden, layers=settings.layers, dropout=settings.dropout)

    def loss() -> Tensor:
        x, visemes = crops(settings.batch)
        return phoneme_loss(network.nets[0](x)[1], visemes)

    descend(
        network, loss, settings.pretrain_steps, settings.pretrain_rate, settings.weight_decay, _every(log, "phonemes")
    )
    return network


def _every(log: Callable[[str], None], what: str, steps: int = 100) -> Callable[[int, float], None]:
    total = 0.0

    def each(step: int, value: float) -> None:
        nonlocal total
        total += value
        if step % steps == 0:
            log(f"{what}: step {step}, loss {total / steps:.3f}")
            total = 0.0

    return each


def start_head(network: Audio2BS, examples: Sequence[Example], width: int) -> nn.Sequential:
    """A lip head of ``width`` directions that begin as the principal ones of the fitted coefficients."""
    step = [6 if e.kind == "one" else 1 for e in examples]
    rows = np.concatenate([e.coefficients[e.seen][::s] for e, s in zip(examples, step, strict=True)])
    mean = rows.mean(0)
    _, scales, axes = np.linalg.svd(rows - mean, full_matrices=False)
    directions = nn.Linear(width, len(LIPS))
    directions.weight.data = torch.from_numpy((axes[:width].T * scales[:width] / np.sqrt(len(rows))).astype(np.float32))
    directions.bias.data = torch.from_numpy((mean - 0.03).astype(np.float32))
    return nn.Sequential(nn.Linear(2 * network.config["hidden"], width), directions)


def fold_head(head: nn.Module) -> nn.Linear:
    """The one linear layer that two in a row are."""
    first, second = (layer for layer in head.children() if isinstance(layer, nn.Linear))
    folded = nn.Linear(first.in_features, second.out_features)
    folded.weight.data = second.weight.data @ first.weight.data
    folded.bias.data = second.weight.data @ first.bias.data + second.bias.data
    return folded


def train_member(
    settings: Settings, start: Audio2BS, examples: Sequence[Example], real: RealCrops, spoken: SpokenCrops,
    loss: LipLoss, log: Callable[[str], None],
) -> Audio2BS:  # fmt: skip
    """Fine-tune one member on real lips and spoken visemes; returns the running average of its weights."""
    network = copy.deepcopy(start)
    net = network.nets[0]
    net.lips = start_head(network, examples, settings.head)
    mean = copy.deepcopy(network)

    def both() -> Tensor:
        x, targets, seen = real(settings.batch)
        value = loss.real(activate(net(x)[0]), targets, seen)
        x, visemes = spoken(settings.spoken_batch)
        lips, logits = net(x)
        spoken_loss = loss.spoken(activate(lips), visemes)
        return value + settings.phoneme_weight * phoneme_loss(logits, visemes) + settings.spoken_weight * spoken_loss

    tell = _every(log, "lips")

    def each(step: int, value: float) -> None:
        tell(step, value)
        with torch.no_grad():
            for kept, now in zip(mean.parameters(), network.parameters(), strict=True):
                kept.lerp_(now, 1 - min(0.98, step / (step + 10)))

    descend(net, both, settings.steps, settings.rate, settings.weight_decay, each)
    mean.nets[0].lips = fold_head(mean.nets[0].get_submodule("lips"))
    return mean.eval()


def predict(network: Audio2BS, loss: LipLoss, example: Example) -> NDArray[np.float32]:
    """Geometry ``[T, 3]`` that a network gives a clip's sound."""
    x = fit(features(example.samples), len(example.seen) * MELS_PER_FRAME, SILENCE)
    with torch.inference_mode():
        return loss.geometry(loss.mesh(network.forward(torch.from_numpy(x)[None])))[0].numpy()


def calibrate(network: Audio2BS, loss: LipLoss, examples: Sequence[Example]) -> Audio2BS:
    """The network with the contrast that gives the gap the spread it has in the examples."""
    means = []
    for example in examples:
        x = fit(features(example.samples), len(example.seen) * MELS_PER_FRAME, SILENCE)
        with torch.inference_mode():
            means.append(torch.stack([net(torch.from_numpy(x)[None])[0] for net in network.nets]).mean((0, 1, 2)))
    network.centre = torch.stack(means).mean(0).clone()
    for contrast in np.arange(1.0, 2.0, 0.05):
        network.register_to_config(contrast=round(float(contrast), 2))
        spreads = [predict(network, loss, e)[e.seen, 0].std() / e.geometry[e.seen, 0].std() for e in examples]
        if np.mean(spreads) >= 1:
            break
    return network


def correlations(predicted: NDArray[np.float32], example: Example, offset_s: float) -> NDArray[np.float64]:
    """Pearson's correlation ``[3]`` of geometry when the mouth at t matches the sound at t + ``offset_s``."""
    seen = example.seen.copy()
    return np.array(
        [pearson(delay(p, -offset_s), g, seen) for p, g in zip(predicted.T, example.geometry.T, strict=True)]
    )


def shares_of(examples: Sequence[Example]) -> NDArray[np.float64]:
    """Probability of each clip."""
    return balance([e.kind for e in examples], [len(e.seen) for e in examples], SHARES)


def gather(dataset: Path) -> list[Example]:
    """Examples of all ``train`` and ``val`` clips."""
    return [example_of(sample) for split in ("train", "val") for sample in Dataset(dataset, split)]


def align(network: Audio2BS, loss: LipLoss, examples: Sequence[Example]) -> dict[str, float | None]:
    """Offsets in seconds by name; None where lips do not follow the sound. The one speaker has none."""
    found: dict[str, float | None] = {}
    for e in examples:
        offset, r = (0.0, 1.0) if e.kind == "one" else find_offset(predict(network, loss, e), e.geometry, e.seen)
        found[e.name] = offset if r >= 0.25 else None
    return found


def train(
    settings: Settings, examples: Sequence[Example], bank: Sequence[Utterance], rig: Rig, work: Path,
    log: Callable[[str], None],
) -> Audio2BS:  # fmt: skip
    """The whole recipe: pretrain, a first member, alignment by it, then all members.

    What a stage makes is kept in ``work`` (``phonemes``, ``offsets.json``, ``member-N``) and not made again.
    """
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    rest = measure(rig.neutral.astype(np.float64))
    rest[0] = 0.0
    taught = [e for e in examples if e.split == "train"]
    held = [e for e in examples if e.split == "val"]
    spoken = SpokenCrops(bank, [e.samples for e in taught if e.kind != "one"], rng)

    def kept(name: str, make: Callable[[], Audio2BS]) -> Audio2BS:
        if not (work / name).is_dir():
            make().save_pretrained(work / name)
        return weights.load(Audio2BS, work / name)

    def loss_of(chosen: Sequence[Example]) -> LipLoss:
        scale = scale_of(chosen, shares_of(chosen))
        for example in chosen:
            example.targets = normalise(example, scale, rest)
        return LipLoss(rig, scale)

    def member(chosen: Sequence[Example], loss: LipLoss) -> Audio2BS:
        return train_member(settings, start, chosen, RealCrops(chosen, shares_of(chosen), rng), spoken, loss, log)

    def report(network: Audio2BS, loss: LipLoss) -> None:
        scores = [correlations(predict(network, loss, e), e, e.offset_s) for e in held]
        log(f"val: correlation of gap, width, jaw {np.nanmean(scores, 0).round(3)}")

    start = kept("phonemes", lambda: pretrain(settings, spoken, log))
    if not (work / "offsets.json").is_file():
        loss = loss_of(taught)
        found = align(kept("first", lambda: member(taught, loss)), loss, taught)
        (work / "offsets.json").write_text(json.dumps(found, indent=1))
    offsets = json.loads((work / "offsets.json").read_text())
    aligned = [replace(e, offset_s=offsets[e.name]) for e in taught if offsets[e.name] is not None]
    log(f"aligned {len(aligned)} clips, {sum(e.offset_s != 0 for e in aligned)} of them moved")
    loss = loss_of(aligned)
    network = Audio2BS(
        hidden=settings.hidden, layers=settings.layers, dropout=settings.dropout, members=settings.members
    )
    for i in range(settings.members):
        one = kept(f"member-{i}", partial(member, aligned, loss))
        report(one, loss)
        network.nets[i] = one.nets[0]
    network = calibrate(network.eval(), loss, held)
    report(network, loss)
    return network


def main() -> None:
    """Parse, gather, train, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder made by magictalk data build")
    parser.add_argument("--work", type=Path, required=True, help="what is slow to make is kept here")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for the weights")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    settings, rig = Settings(seed=options.seed), Rig.load()

    def log(line: str) -> None:
        print(line, flush=True)

    try:
        examples = gather(options.data)
    except MagicTalkError as error:
        parser.exit(2, f"error: {error}\n")
    bank = list(utterances(settings.utterances, settings.seed))
    train(settings, examples, bank, rig, options.work, log).save_pretrained(options.out)


if __name__ == "__main__":
    main()
