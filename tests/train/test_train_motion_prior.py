"""Stages of the motion prior's training on made-up talk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from magictalk.drive.emodiff import scheduler_for_training
from magictalk.drive.motion_prior import HEAD, SILENT, MotionPrior, MotionTokens, progressive
from magictalk.errors import DatasetError
from magictalk.train.loop import Schedule
from magictalk.train.motion_prior import MOTION, Example, Settings, Windows, prior_loss, run
from magictalk.train.sequences import Talk, mirror

AHEAD = 2


def example(seed: int, split: str = "train", frames: int = 40) -> Example:
    """Lips that open as the sound gets loud."""
    rng = np.random.default_rng(seed)
    loud = np.abs(np.sin(np.arange(frames) / 3 + seed)).astype(np.float32)
    motion = np.zeros((frames, 58), np.float32)
    motion[:, 17:40] = 0.5 * loud[:, None]
    motion[:, 52:] = 0.05 * rng.standard_normal((frames, 6))
    heard = np.tile(loud[:, None], (1, len(SILENT))) + 0.01 * rng.standard_normal((frames, len(SILENT)))
    mel = np.zeros((4 * frames, 80), np.float32)
    talk = Talk(f"{split}{seed}", "people", split, motion, np.ones(frames, bool), mel, np.zeros(frames, np.float32))
    return Example(talk, heard.astype(np.float32), rng.standard_normal(128).astype(np.float32))


@pytest.fixture(scope="module")
def settings() -> Settings:
    short = Schedule(6, 1e-3, warmup=1, every=3, mean=0.5, precision="no")
    tiny = {"width": 16, "layers": 1, "heads": 2, "ahead": AHEAD}
    return Settings(frames=12, batch=4, tokens={"width": 6, "hidden": 16}, prior=tiny, encoding=short, denoising=short)


def test_windows_are_pieces_of_clips(settings: Settings) -> None:
    clip = example(0)
    batch = Windows([clip], settings, AHEAD)(6, np.random.default_rng(0), varied=False)
    assert batch.motion.shape == (6, 12, 58) and batch.heard.shape == (6, 14, len(SILENT))
    assert batch.guided.tolist() == [False, True] * 3
    for motion, heard in zip(batch.motion.numpy(), batch.heard.numpy(), strict=True):
        starts = [t for t in range(29) if np.array_equal(clip.talk.motion[t : t + 12], motion)]
        assert len(starts) == 1
        own = clip.heard[starts[0] : starts[0] + 14]
        assert np.array_equal(heard[: len(own)], own) and np.allclose(heard[len(own) :], SILENT)
    norms = batch.image.norm(dim=1).numpy()
    assert norms == pytest.approx(128**0.5, rel=1e-4)


def test_varied_windows_are_mirrored_veiled_and_of_nobody_now_and_then(settings: Settings) -> None:
    clip = example(0)
    windows = Windows([clip], settings, AHEAD)
    batch = windows(400, np.random.default_rng(0))
    nobody = float((batch.image == 0).all(1).float().mean())
    assert nobody == pytest.approx(settings.nobody, abs=0.06)
    assert float(batch.guided.float().mean()) == pytest.approx(settings.guided, abs=0.07)
    heads = {row.tobytes() for row in clip.talk.motion[:, 52:]}
    turned = {row.tobytes() for row in mirror(clip.talk.motion)[:, 52:]}
    first = [row.tobytes() for row in batch.motion[:, 0, 52:].numpy()]
    assert all(row in heads | turned for row in first)
    assert 0.4 < np.mean([row in heads for row in first]) < 0.6


def test_the_loss_is_equation_3_without_heads_that_are_given(settings: Settings) -> None:
    torch.manual_seed(0)
    tokens, prior = MotionTokens(width=6), MotionPrior(token=6, width=16, layers=1, heads=2, ahead=AHEAD).eval()
    batch = Windows([example(0)], settings, AHEAD)(4, np.random.default_rng(0), varied=False)
    with torch.inference_mode():
        loss = float(prior_loss(prior, tokens, batch, np.random.default_rng(5), torch.device("cpu")))
        rng, products = np.random.default_rng(5), scheduler_for_training().alphas_cumprod
        t = torch.from_numpy(rng.integers(0, 1000, 4))
        z, errors, made = tokens.encode(batch.motion), [], []
        epsilon = progressive(torch.from_numpy(rng.standard_normal(tuple(z.shape), np.float32)))
        for i in range(4):
            a = products[t[i]]
            noisy = a.sqrt() * z[i] + (1 - a).sqrt() * epsilon[i]
            lead = z[i : i + 1, :, HEAD] if i % 2 else None
            found = prior(noisy[None], t[i : i + 1], batch.heard[i : i + 1], batch.image[i : i + 1], lead)[0]
            error = (found - epsilon[i]) ** 2 / a
            errors.append(error[:, 1:] if i % 2 else error)
            clean = (noisy - (1 - a).sqrt() * found) / a.sqrt()
            if i % 2:
                clean[:, HEAD] = z[i, :, HEAD]
            made.append(tokens.decode(clean))
        off = (torch.stack(made) - batch.motion) / tokens.std
        moved = (off[:, 1:] - off[:, :-1]).square().mean()
    noise = torch.cat([e.flatten() for e in errors]).mean()
    assert loss == pytest.approx(float(noise + MOTION * (off.square().mean() + moved)), rel=1e-3)


def test_both_stages_run_go_on_and_learn(settings: Settings, tmp_path: Path) -> None:
    examples = [*(example(i) for i in range(4)), example(9, "val")]
    lines: list[str] = []
    tokens, prior = run(settings, examples, tmp_path, lines.append)
    assert [line for line in lines if line.startswith("stage")] == ["stage tokens", "stage prior"]
    assert not any(p.requires_grad for p in tokens.parameters())
    again = run(settings, examples, tmp_path, lines.append)
    for one, other in zip((tokens, prior), again, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    longer = Schedule(200, 4e-3, warmup=10, every=100, mean=0.9, precision="no")
    run(replace(settings, encoding=longer, denoising=longer), examples, tmp_path / "longer", lines.append)
    held = [float(line.split("held out ")[1]) for line in lines if "held out" in line]
    untrained, trained = held[:4], held[-4:]
    assert trained[1] < 0.5 * untrained[0] and trained[3] < 0.95 * untrained[2]


def test_both_splits_are_needed(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="2 clips of split train and 0 of val"):
        run(settings, [example(0), example(1)], tmp_path, print)
