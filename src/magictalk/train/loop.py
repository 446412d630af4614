"""One training loop: Adam on accelerate, a running mean of the weights, losses as a plot, and going on after a stop."""

from __future__ import annotations

import argparse
import copy
import csv
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from magictalk.errors import MissingDependencyError, OptionError

if TYPE_CHECKING:
    from accelerate import Accelerator

Batch = TypeVar("Batch", bound="tuple[Tensor, ...]")

STATE = "state.safetensors"
"""In the work folder: what a run needs to go on."""
LOSSES = "losses.csv"
PLOT = "losses.png"


@dataclass(frozen=True)
class Schedule:
    """How long and how fast.

    Attributes:
        steps: in all.
        rate: Adam's, reached after ``warmup`` steps and brought to zero along half a cosine.
        warmup: steps.
        mean: decay of the running mean of the weights.
        every: steps between two looks at held-out data, each of which is a point of the plot and kept on the disk.
        seed: of the weights and of every batch.
        precision: ``"bf16"`` or ``"no"``, as accelerate names them.
    """

    steps: int
    rate: float
    warmup: int = 200
    mean: float = 0.999
    every: int = 250
    seed: int = 0
    precision: str = "bf16"

    def factor(self, step: int) -> float:
        """The rate's share at a step."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - self.warmup) / max(1, self.steps - self.warmup))))

    def shorter(self, share: float, seed: int) -> Schedule:
        """The same over a share of the steps, from another seed."""
        steps = max(1, round(self.steps * share))
        return replace(self, steps=steps, warmup=min(self.warmup, steps // 4), seed=seed)


def accelerator_of(schedule: Schedule) -> Accelerator:
    """Accelerate on whatever device there is.

    Raises:
        MissingDependencyError: when it is not installed.
    """
    try:
        from accelerate import Accelerator
    except ImportError as error:
        raise MissingDependencyError(
            f"training needs accelerate, which cannot be imported ({error}); pip install 'magictalk[train]'"
        ) from error
    return Accelerator(mixed_precision=schedule.precision)


def moved(batch: Batch, device: torch.device) -> Batch:
    """A named tuple of tensors, on a device."""
    return cast(Batch, cast(Any, type(batch))(*(part.to(device) for part in batch)))


def train(
    network: nn.Module,
    loss: Callable[[nn.Module, np.random.Generator, torch.device], Tensor],
    held: Callable[[nn.Module, torch.device], float],
    schedule: Schedule,
    work: Path,
    log: Callable[[str], None] = print,
    until: int | None = None,
    settings: str = "",
) -> nn.Module:
    """Train a network; returns the running mean of its weights.

    The batch of a step is drawn from the seed and the step alone, so that a run that goes on after a stop does what it
    would have done.

    Args:
        network: with weights drawn already.
        loss: of a batch that the generator draws, on a device.
        held: figure on held-out data, less is better.
        schedule: see there.
        work: folder for the state, the losses and their plot.
        log: told of each look at held-out data.
        until: stop after this step, to go on later.
        settings: what else decides what is trained, in words; a run goes on only with the same.

    Raises:
        MissingDependencyError: when accelerate is not installed.
        OptionError: when the work folder holds a run with other settings.
    """
    from tqdm import tqdm

    work.mkdir(parents=True, exist_ok=True)
    accelerator = accelerator_of(schedule)
    device = accelerator.device
    mean = copy.deepcopy(network).to(device)
    optimiser = torch.optim.Adam(network.parameters(), schedule.rate)
    network, optimiser = accelerator.prepare(network, optimiser)
    plain = accelerator.unwrap_model(network)
    settings = f"{settings} {schedule}"
    step, points = _resume(work, settings, plain, mean, optimiser)
    total, count = 0.0, 0
    bar = tqdm(total=schedule.steps, initial=step, disable=None, leave=False)
    while step < min(schedule.steps, until or schedule.steps):
        torch.manual_seed(hash_of(schedule.seed, step))
        network.train()
        for group in optimiser.param_groups:
            group["lr"] = schedule.rate * schedule.factor(step)
        value = loss(network, np.random.default_rng([schedule.seed, step]), device)
        optimiser.zero_grad()
        accelerator.backward(value)
        accelerator.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        step += 1
        bar.update()
        with torch.no_grad():
            decay = min(schedule.mean, step / (step + 10))
            for kept, now in zip(mean.parameters(), plain.parameters(), strict=True):
                kept.lerp_(now, 1 - decay)
        total, count = total + float(value.detach()), count + 1
        if step % schedule.every == 0 or step == schedule.steps:
            points.append((step, total / count, held(mean.eval(), device)))
            total, count = 0.0, 0
            log(f"step {step}: loss {points[-1][1]:.4f}, held out {points[-1][2]:.4f}")
            _keep(work, settings, plain, mean, optimiser, step, points)
    bar.close()
    return mean.eval().cpu()


def command_line(description: str | None, steps: int) -> argparse.ArgumentParser:
    """What every recipe that uses the loop is told on the command line."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder made by magictalk data build")
    parser.add_argument("--work", type=Path, required=True, help="state and losses; a run that broke off goes on there")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for the weights")
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    return parser


def hash_of(seed: int, step: int) -> int:
    """One number of two."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1)[0])


def _keep(
    work: Path, settings: str, network: nn.Module, mean: nn.Module, optimiser: torch.optim.Optimizer, step: int,
    points: list[tuple[int, float, float]],
) -> None:  # fmt: skip
    """Write everything that going on needs, whole or not at all."""
    from safetensors.torch import save_file

    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    tensors |= {f"mean.{name}": value for name, value in mean.state_dict().items()}
    for i, state in optimiser.state_dict()["state"].items():
        tensors |= {f"adam.{i}.{name}": torch.as_tensor(value) for name, value in state.items()}
    part = work / f".{STATE}.part"
    tensors = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    save_file(tensors, part, {"settings": settings, "step": str(step), "points": json.dumps(points)})
    part.replace(work / STATE)
    with (work / LOSSES).open("w", newline="") as file:
        csv.writer(file).writerows([("step", "train", "held out"), *points])
    plot(points, work / PLOT)


def _resume(
    work: Path, settings: str, network: nn.Module, mean: nn.Module, optimiser: torch.optim.Optimizer
) -> tuple[int, list[tuple[int, float, float]]]:
    """Take up what :func:`_keep` wrote: the step and the points so far; zero and none when there is nothing."""
    from safetensors import safe_open

    if not (work / STATE).is_file():
        return 0, []
    with safe_open(work / STATE, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no dict
        facts = file.metadata()
    if facts["settings"] != settings:
        raise OptionError(f"{work} holds a run with other settings; ask for the same, or give another folder")
    for name, module in (("network", network), ("mean", mean)):
        own = {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")}
        module.load_state_dict(own, strict=True)
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("adam."):
            _, i, name = key.split(".")
            state.setdefault(int(i), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    return int(facts["step"]), [tuple(point) for point in json.loads(facts["points"])]


def plot(points: list[tuple[int, float, float]], path: Path) -> None:
    """Losses over steps, as a picture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    steps, *curves = zip(*points, strict=True)
    for curve, name in zip(curves, ("train", "held out (running mean of the weights)"), strict=True):
        axes.plot(steps, curve, label=name)
    axes.set(xlabel="step", ylabel="loss", yscale="log")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=110)
