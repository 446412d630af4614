"""Stages of MAGIC-Talk's training: what learns, what is frozen, what it learns from."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from magictalk.render.diffusion.reference import ReferenceNet
from magictalk.render.diffusion.schedule import animatediff_scheduler
from magictalk.train import magic_talk
from magictalk.train.loop import Schedule, moved
from magictalk.train.magic_talk import (
    STAGES,
    Settings,
    Talking,
    networks_of,
    noise_for,
    with_motion,
)
from magictalk.train.pictures import Clip
from magictalk.train.videos import Batch, Videos, picture_code, videos_of

SIDE = 32
TINY: dict[str, Any] = {"channels": (16, 32), "layers": 1, "heads": 2, "width": 12, "groups": 8, "fold": 2}


@pytest.fixture(scope="module")
def settings() -> Settings:
    schedule = Schedule(4, 1e-3, warmup=1, every=2, mean=0.5, precision="no")
    stages = tuple(replace(s, schedule=schedule, videos=2, frames=min(s.frames, 4)) for s in STAGES)
    reference = {**TINY, "identity_width": 128, "identity_tokens": 2, "frames": 8, "motion_heads": 2}
    return Settings(
        side=SIDE, looks=2, stages=stages, reference=reference, animate={**TINY, "control_channels": (4, 8, 8)}
    )


@pytest.fixture(scope="module")
def videos(
    settings: Settings,
    vae: Any,
    oval_clip: Callable[..., Clip],
    reader: Any,
    nobody: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> Videos:
    table = tmp_path_factory.mktemp("captions") / "captions.csv"
    return videos_of([oval_clip(i, frames=20) for i in range(3)], vae, reader, nobody, table, settings)


@pytest.mark.parametrize("said", ["noise", "velocity"])
def test_the_loss_is_equation_1(settings: Settings, videos: Videos, said: str) -> None:
    velocity = {"velocity": True} if said == "velocity" else {}
    reference, animate = networks_of(replace(settings, reference={**settings.reference, **velocity}))
    batch = videos.draw(2, 1, np.random.default_rng(0))
    epsilon, t = torch.randn(batch.latents.shape), torch.tensor([3, 700])
    alpha = animatediff_scheduler().alphas_cumprod[t]
    with torch.inference_mode():
        loss = Talking(reference, animate, False)(batch, epsilon, t, alpha)
        noisy = animatediff_scheduler().add_noise(batch.latents, epsilon, t)
        found = reference(noisy, t, batch.text, batch.face)
        if velocity:  # what the UNet itself says, against its definition
            a = alpha.view(-1, 1, 1, 1, 1)
            found = (found - (1 - a).sqrt() * noisy) / a.sqrt()
            epsilon = a.sqrt() * epsilon - (1 - a).sqrt() * batch.latents
        expected = batch.weight * (found - epsilon) ** 2
    assert float(loss) == pytest.approx(float(expected.mean()), rel=1e-4)


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_gradients_reach_exactly_what_a_stage_trains(settings: Settings, videos: Videos, stage: Any) -> None:
    reference, animate = networks_of(settings)
    animate.clone(reference)
    if stage.name == "motion":
        reference = with_motion(reference)
    for p in animate.net.controlnet_mid_block.parameters():  # as after some training: no convolution is at zero
        torch.nn.init.normal_(p)
    network = Talking(reference, animate, stage.controlled)
    magic_talk.freeze(network, stage)
    batch = videos.draw(1, 4 if stage.frames > 1 else 1, np.random.default_rng(0))
    t = torch.tensor([10])
    network(batch, torch.randn(batch.latents.shape), t, torch.tensor([0.5])).backward()
    touched = {name for name, p in network.named_parameters() if p.grad is not None}
    wanted = {name for name, _ in network.named_parameters() if re.match(stage.learns, name)}
    assert touched == wanted and wanted
    heads = {name.split(".")[0] for name in wanted}
    assert heads == ({"animate", "reference"} if stage.name in ("animate", "together") else {"reference"})


def test_motion_blocks_begin_by_changing_nothing(settings: Settings, videos: Videos) -> None:
    still, _ = networks_of(settings)
    moving = with_motion(still)
    batch = videos.draw(1, 4, np.random.default_rng(0))
    with torch.inference_mode():
        a, b = (net.eval()(batch.latents, 5, batch.text, batch.face) for net in (still, moving))
    assert torch.allclose(a, b, atol=1e-6)
    assert isinstance(moving, ReferenceNet) and any("motion_modules" in name for name in moving.state_dict())


@pytest.mark.parametrize("motion", [True, False])
def test_all_stages_run_and_go_on(settings: Settings, videos: Videos, vae: Any, tmp_path: Path, motion: bool) -> None:
    lines: list[str] = []
    asked = replace(settings, motion=motion)
    reference, _ = magic_talk.run(asked, videos, videos, vae, tmp_path, lines.append)
    names = ["reference", "animate", "together"] + ["motion"] * motion
    assert [line for line in lines if line.startswith("stage")] == [f"stage {name}" for name in names]
    assert reference.config["motion"] is motion
    for name in names:
        assert Image.open(tmp_path / name / "sheet.png").size == (2 * SIDE, 3 * SIDE)
    again, _ = magic_talk.run(asked, videos, videos, vae, tmp_path, lines.append)  # nothing is left to do
    assert all(torch.equal(a, b) for a, b in zip(reference.parameters(), again.parameters(), strict=True))
    fresh, _ = networks_of(settings)
    before = fresh.unet.state_dict()["conv_in.weight"]
    assert not torch.equal(before, reference.unet.state_dict()["conv_in.weight"])


def test_it_learns_what_is_said_and_who_it_is(settings: Settings, videos: Videos, vae: Any, tmp_path: Path) -> None:
    schedule = Schedule(150, 3e-3, warmup=10, every=50, mean=0.9, precision="no")
    one = replace(settings, stages=(replace(settings.stages[0], schedule=schedule, videos=8),))
    lines: list[str] = []
    magic_talk.run(one, videos, videos, vae, tmp_path, lines.append)
    held = [float(line.split("held out ")[1]) for line in lines if "held out" in line]
    assert held[-1] < 0.8 * held[0]


def test_a_picture_code_knows_a_picture() -> None:
    a, b = torch.randn(2, 4, 16, 16)
    assert picture_code(a).shape == (128,) and float(picture_code(a).norm()) == pytest.approx(128**0.5)
    assert torch.equal(picture_code(a), picture_code(a)) and not torch.allclose(picture_code(a), picture_code(b))


def test_a_batch_moves_whole() -> None:
    batch = Batch(*(torch.zeros(1) for _ in Batch._fields))
    there = moved(batch, torch.device("meta"))
    assert isinstance(there, Batch) and all(part.is_meta for part in there)


def test_frames_of_a_video_have_more_or_less_of_their_noise_in_common() -> None:
    latents = torch.zeros(1, 4, 2, 40, 40)
    shares = []
    for seed in range(40):
        noise = noise_for(latents, np.random.default_rng(seed))[0].transpose(0, 1).flatten(1)
        assert torch.allclose(noise.std(1), torch.ones(2), atol=0.05)
        shares.append(float(torch.corrcoef(noise)[0, 1]))
    assert min(shares) < 0.15 and max(shares) > 0.85 and abs(np.mean(shares) - 0.5) < 0.15
    assert noise_for(latents[:, :, :1], np.random.default_rng(0)).shape == (1, 4, 1, 40, 40)
