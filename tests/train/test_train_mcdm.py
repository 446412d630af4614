"""Stages of MCDM's training: what learns, what stands in the archive, what is remembered."""

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

from magictalk.drive.motion_prior import MotionTokens
from magictalk.errors import OptionError
from magictalk.motion import Motion
from magictalk.render.diffusion.clip_by_clip import FRAMES
from magictalk.render.diffusion.clips import MEMORY_PARTS, PRESENT_PARTS
from magictalk.render.diffusion.reference import ReferenceNet
from magictalk.render.diffusion.schedule import alphas
from magictalk.train import mcdm
from magictalk.train.loop import Schedule
from magictalk.train.mcdm import STAGES, Clips, Remembering, Settings, freeze, network_of, run, settings_for, since
from magictalk.train.pictures import Clip
from magictalk.train.videos import Videos, videos_of

SIDE, LENGTH = 32, 40
TINY: dict[str, Any] = {"channels": (16, 32), "layers": 1, "heads": 2, "width": 12, "groups": 8, "fold": 2}


@pytest.fixture(scope="module")
def settings() -> Settings:
    schedule = Schedule(4, 1e-3, warmup=1, every=2, mean=0.5, precision="no")
    stages = tuple(replace(s, schedule=schedule, videos=2) for s in STAGES)
    network = {**TINY, "velocity": True, "token": 5, "queries": 3, "patch": 2, "tokens": 64, "features": 16}
    return Settings(side=SIDE, looks=2, stages=stages, network=network)


@pytest.fixture(scope="module")
def reference() -> ReferenceNet:
    torch.manual_seed(0)
    return ReferenceNet(**TINY, identity_width=128, identity_tokens=2, frames=8, motion_heads=2, velocity=True)


@pytest.fixture(scope="module")
def tokens() -> MotionTokens:
    torch.manual_seed(1)
    return MotionTokens(width=5, hidden=8)


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
    rng = np.random.default_rng(0)
    clips = [
        replace(
            oval_clip(i, frames=LENGTH),
            motion=rng.normal(0, 0.2, (LENGTH, 58)).astype(np.float32),
            heard=rng.normal(0, 1, (LENGTH, 320)).astype(np.float32),
        )
        for i in range(3)
    ]
    return videos_of(clips, vae, reader, nobody, table, settings)


def at(videos: Videos, reference: torch.Tensor, frame: torch.Tensor) -> tuple[int, int, int]:
    """Clip, and the frames of it whose latents ``[C, h, w]`` these are."""
    for i, (shown, *_) in enumerate(videos.shown):
        known = shown.latents.float()
        same = [torch.nonzero((known == z).all(-1).all(-1).all(-1)).flatten().tolist() for z in (reference, frame)]
        if same[0] and same[1]:
            return i, same[0][0], same[1][0]
    raise AssertionError


def test_a_clip_comes_with_those_before_it(videos: Videos, tokens: MotionTokens) -> None:
    for frames in (1, FRAMES):
        now, before = Clips(videos, tokens).draw(6, frames, np.random.default_rng(frames), varied=False)
        assert now.latents.shape == (6, 4, frames, 16, 16) and now.archive.shape == (6, frames, 4, 16, 16)
        assert now.motion.shape == (6, frames, 3, 5) and now.weight.shape == (6, 1, frames, 16, 16)
        assert torch.equal(now.reference, before.reference)
        for k in range(6):
            # pictures repeat every three frames here: what is known of a frame is its number modulo 3
            _, _, place = at(videos, now.reference[k], now.latents[k, :, 0])
            for i, archived in enumerate(now.archive[k]):
                _, _, old = at(videos, now.reference[k], archived)
                assert (place + i - FRAMES - old) % 3 == 0 or torch.equal(archived, now.reference[k])


def test_the_archive_begins_with_the_portrait(videos: Videos, tokens: MotionTokens) -> None:
    drawn = [Clips(videos, tokens).draw(1, 1, np.random.default_rng(s), varied=False)[0] for s in range(60)]
    held = [torch.equal(b.archive[0, 0], b.reference[0]) for b in drawn]
    assert 0.3 < np.mean(held) < 0.9  # frames 0 to 15 of 40, and equal pictures
    for without in ("archived", "vae"):
        alone = [Clips(videos, tokens, without).draw(1, 1, np.random.default_rng(s), False)[0] for s in range(20)]
        assert all(torch.equal(b.archive[0, 0], b.reference[0]) for b in alone)


def test_half_of_the_archives_are_anchored(
    videos: Videos, tokens: MotionTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They lie on the way from a frame to the portrait; noise is left out here."""
    monkeypatch.setattr(mcdm, "ARCHIVE_NOISE", 0.0)
    monkeypatch.setattr(mcdm, "AT_FIRST", 0.0)
    known = [looks.latents.float() for shown in videos.shown for looks in shown]
    shares = []
    for s in range(150):
        batch, _ = Clips(videos, tokens).draw(1, 1, np.random.default_rng(s))
        portrait, archived = batch.reference[0], batch.archive[0, 0]
        ways = next(z for z in known if (z == portrait).flatten(1).all(1).any()) - portrait
        gone = ((archived - portrait) * ways).flatten(1).sum(1) / (ways**2).flatten(1).sum(1).clamp(min=1e-9)
        off = (archived - portrait - gone[:, None, None, None] * ways).flatten(1).norm(dim=1)
        if not torch.equal(archived, portrait):
            assert off.min() < 1e-3
            shares.append(1 - float(gone[off.argmin()]))
    assert all(-1e-4 < share < 1 for share in shares) and len(shares) > 30
    assert 0.3 < np.mean([share > 1e-4 for share in shares]) < 0.7


def test_now_and_then_nothing_is_said_of_the_motion(videos: Videos, tokens: MotionTokens) -> None:
    batch, _ = Clips(videos, tokens).draw(200, 1, np.random.default_rng(0))
    assert float((batch.motion == 0).all(-1).all(-1).float().mean()) == pytest.approx(mcdm.UNLED, abs=0.06)


def test_in_place_of_motion_sound_is_heard(videos: Videos, tokens: MotionTokens) -> None:
    rows = torch.arange(40.0)[:, None].expand(-1, 320)
    windows = mcdm.windows_of(rows) / mcdm.TOKEN_SPREAD
    assert windows.shape == (40, 6, 320) and windows[3, :, 0].tolist() == pytest.approx([3, 4, 5, 6, 7, 8])
    assert windows[38, :, 7].tolist() == pytest.approx([38, 39, 39, 39, 39, 39])
    batch, _ = Clips(videos, tokens, "present").draw(3, FRAMES, np.random.default_rng(0), varied=False)
    assert batch.motion.shape == (3, FRAMES, 6, 320)
    assert torch.equal(batch.motion[:, 0, 1], batch.motion[:, 1, 0])


def test_heads_are_told_from_where_they_are_in_the_portrait() -> None:
    """As ``Motion.relative`` does it for the first frame."""
    motion = np.random.default_rng(0).normal(0, 0.3, (9, 58)).astype(np.float32)
    motion[:, :52] = np.abs(motion[:, :52])
    wanted = Motion(motion[:, :52].clip(0, 1), motion[:, 52:]).relative()
    assert np.allclose(since(motion, motion[0])[:, 52:], wanted.head, atol=1e-5)
    assert np.allclose(since(motion[4:5], motion[4])[:, 52:], 0, atol=1e-6)


def test_mirrored_strangers_move_mirrored(videos: Videos) -> None:
    """A look is a piece of its clip, or of that in a mirror."""
    from magictalk.train.sequences import mirror

    for (own, other), clip in zip(videos.shown, videos.clips, strict=True):
        assert own.clip.motion is clip.motion and other.clip.motion is not None and clip.motion is not None
        assert any(np.array_equal(other.clip.motion, way(clip.motion)[:48]) for way in (np.array, mirror))


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_gradients_reach_exactly_what_a_stage_trains(
    settings: Settings, reference: ReferenceNet, videos: Videos, tokens: MotionTokens, stage: Any
) -> None:
    network = network_of(settings, reference)
    for _, layer in network.memory_layers():  # as after a step: what is zero lets nothing through
        torch.nn.init.normal_(layer.attention.to_out.weight)
    learner = Remembering(network)
    freeze(learner, stage)
    batch, before = Clips(videos, tokens).draw(2, FRAMES, np.random.default_rng(0), varied=False)
    epsilon = torch.randn(batch.latents.shape, generator=torch.Generator().manual_seed(0))
    learner(batch, before, epsilon, torch.tensor([200, 700])).backward()
    learnt = {name for name, p in network.named_parameters() if p.grad is not None}
    own = {name for name, _ in network.named_parameters() if re.match(rf"{PRESENT_PARTS}|{MEMORY_PARTS}", name)}
    every = {name for name, _ in network.named_parameters()}
    wanted = {"archived": every - own, "together": own, "whole": every}
    assert learnt == wanted[stage.name] and own and every - own


def test_the_loss_is_that_of_the_velocity_and_more_so_of_what_moves(
    settings: Settings, reference: ReferenceNet, videos: Videos, tokens: MotionTokens
) -> None:
    network = network_of(settings, reference).eval()
    batch, _ = Clips(videos, tokens).draw(2, FRAMES, np.random.default_rng(0), varied=False)
    epsilon = torch.randn(batch.latents.shape, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([100, 800])
    with torch.inference_mode():
        found = Remembering(network)(batch, None, epsilon, t)
        a = alphas()[t].view(-1, 1, 1, 1, 1)
        noisy = a.sqrt() * batch.latents + (1 - a).sqrt() * epsilon
        noise, _ = network(noisy, t, batch.reference, batch.archive, batch.motion)
        v = lambda e: (e - (1 - a).sqrt() * noisy) / a.sqrt()  # noqa: E731  # velocity of a noise, but for what cancels
        error = v(noise) - v(epsilon)
        moves = error - error.mean(2, keepdim=True)
        wanted = (batch.weight * error**2).mean() + mcdm.MOVES * (batch.weight * moves**2).mean()
        assert float(found) == pytest.approx(float(wanted), rel=1e-4)


@pytest.mark.parametrize("without", [None, *mcdm.ABLATIONS])
def test_all_stages_run_and_go_on(
    settings: Settings, reference: ReferenceNet, videos: Videos, tokens: MotionTokens, vae: Any, tmp_path: Path,
    without: str | None,
) -> None:  # fmt: skip
    settings = replace(settings, without=without)
    clips, told = Clips(videos, tokens, without), list[str]()
    made = run(settings, network_of(settings, reference), clips, clips, vae, tmp_path, told.append)
    assert told[0] == "stage archived" and "stage together" in told and made.config["memory"] == (without != "memory")
    again = run(settings, network_of(settings, reference), clips, clips, vae, tmp_path, told.append)
    for name, value in made.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert Image.open(tmp_path / "together" / "sheet.png").size == (2 * SIDE, 3 * SIDE)


def test_runs_are_as_long_as_asked_for() -> None:
    made = settings_for(300, "memory", looks=3, seed=5)
    assert sum(s.schedule.steps for s in made.stages) == 300 and made.without == "memory" and made.looks == 3
    for steps, looks in ((0, 3), (10, 0)):
        with pytest.raises(OptionError, match="expected 1 or more"):
            settings_for(steps, None, looks)
