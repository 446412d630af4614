import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from magictalk import weights
from magictalk.drive.audio2bs import Heard
from magictalk.drive.emodiff import EmoDiff, EmoDiffDrive
from magictalk.drive.lips import EmotionalResidue
from magictalk.errors import DatasetError, OptionError
from magictalk.face.rig import Rig
from magictalk.motion import ARKIT
from magictalk.style import EMOTIONS
from magictalk.sync import SyncExpert
from magictalk.train import emodiff, refinement
from magictalk.train.loop import LOSSES, PLOT, STATE, Schedule, train
from magictalk.train.sequences import Talk, around_mean, balance, centre_gaze, mirror


def _talk(seed: int, frames: int = 90, split: str = "train", kind: str = "people") -> Talk:
    """A made-up clip whose jaw follows its sound."""
    rng = np.random.default_rng(seed)
    loud = np.abs(np.sin(np.arange(frames) * rng.uniform(0.2, 0.5) + rng.uniform(0, 6))).astype(np.float32)
    motion = np.zeros((frames, 58), np.float32)
    motion[:, ARKIT.index("jawOpen")] = 0.4 * loud
    motion[:, ARKIT.index("browInnerUp")] = 0.2 + 0.1 * np.sin(np.arange(frames) / 9)
    motion[:, 52:] = 0.05 * np.sin(np.arange(frames) / 14 + rng.uniform(0, 6))[:, None]
    mel = np.repeat(4 * loud - 2, 4)[:, None] + rng.normal(0, 0.1, (4 * frames, 80))
    seen = np.ones(frames, bool)
    seen[:3] = False
    return Talk(str(seed), kind, split, motion, seen, mel.astype(np.float32), (1 - loud) ** 4)


@pytest.fixture(scope="module")
def talks() -> list[Talk]:
    return [_talk(i, split="val" if i > 5 else "train", kind=("people", "one", "generated")[i % 3]) for i in range(9)]


def _settings(**more) -> emodiff.Settings:  # type: ignore[no-untyped-def]
    schedule = Schedule(30, 2e-3, warmup=5, every=10, precision="no")
    return emodiff.Settings(hidden=32, layers=1, batch=8, dropout=0.0, schedule=schedule, **more)


def test_windows_keep_clear_of_frames_that_cannot_teach(talks) -> None:  # type: ignore[no-untyped-def]
    windows = emodiff.Windows(talks, _settings(expressive=0.0))
    batch = windows(64, np.random.default_rng(0))
    assert batch.motion.shape == (64, 32, 58) and batch.mel.shape == (64, 128, 80) and batch.style.shape == (64, 3, 58)
    ours = {row.tobytes() for talk in talks for m in (talk.motion, mirror(talk.motion)) for row in m[talk.seen]}
    assert all(row.tobytes() in ours for window in batch.motion for row in window)
    assert all(row.tobytes() in ours for style in batch.style for row in style)


def test_style_frames_carry_the_windows_expression(talks) -> None:  # type: ignore[no-untyped-def]
    batch = emodiff.Windows(talks, _settings(expressive=1.0, changing=0.0))(200, np.random.default_rng(1))
    mean, style = batch.motion[..., :52].mean(1), batch.style[..., :52].mean(1)
    for name in ("mouthSmileLeft", "browDownRight", "noseSneerLeft", "eyeWideLeft"):
        i = ARKIT.index(name)
        assert np.corrcoef(mean[:, i], style[:, i])[0, 1] > 0.95
    assert set(batch.emotion) == set(range(len(EMOTIONS)))


def test_an_expression_changes_smoothly() -> None:
    rng = np.random.default_rng(0)
    first, last = np.zeros(52, np.float32), np.full(52, 0.6, np.float32)
    path = emodiff.path_of(first, last, 40, 5, 20, rng)
    assert np.abs(path[:5]).max() == 0 and 0.5 < path[-1, 0] < 0.7
    assert np.abs(np.diff(path, axis=0)).max() < 0.08


def test_a_mirror_twice_is_none() -> None:
    motion = np.random.default_rng(0).random((5, 58), dtype=np.float32)
    assert np.array_equal(mirror(mirror(motion)), motion)
    one = mirror(motion)
    assert np.array_equal(one[:, ARKIT.index("mouthSmileLeft")], motion[:, ARKIT.index("mouthSmileRight")])
    assert np.array_equal(one[:, 52:], motion[:, 52:] * [1, -1, -1, -1, 1, 1])


def test_gaze_and_head_are_about_their_middle() -> None:
    rng = np.random.default_rng(0)
    seen = np.ones(60, bool)
    coefficients = rng.random((60, 52), dtype=np.float32) * 0.2
    coefficients[:, ARKIT.index("eyeLookInLeft")] += 0.5
    centred = centre_gaze(coefficients, seen)
    gaze = centred[:, ARKIT.index("eyeLookInLeft")] - centred[:, ARKIT.index("eyeLookOutLeft")]
    assert abs(np.median(gaze)) < 1e-6
    head = around_mean(rng.normal([0.3, -0.2, 0.1, 1, 2, 3], 0.05, (60, 6)).astype(np.float32), seen)
    assert np.abs(head.mean(0)).max() < 0.01


def test_training_windows_become_white(talks) -> None:  # type: ignore[no-untyped-def]
    network, windows = EmoDiff(hidden=32, layers=1), emodiff.Windows(talks, _settings())
    emodiff.whiten(network, windows)
    motion = torch.from_numpy(windows(3000, np.random.default_rng(5)).motion)
    white = network.waves @ network.normalise(motion)
    jaw = white[..., ARKIT.index("jawOpen")]
    assert jaw.abs().mean() == pytest.approx(float(torch.randn(100_000).abs().mean()), abs=0.1)
    noise = network.denormalise(torch.randn(500, 32, 58)).diff(dim=1).abs().mean((0, 1))
    real = motion.diff(dim=1).abs().mean((0, 1))
    moving = real > 1e-3
    assert noise[moving].mean() == pytest.approx(float(real[moving].mean()), rel=0.35)


def test_kinds_have_their_shares() -> None:
    shares = balance(["one"] * 300 + ["people"] * 10, [75] * 310, {"one": 0.2, "people": 0.8})
    assert shares[:300].sum() == pytest.approx(0.2) and shares.sum() == pytest.approx(1)


class _Line(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(3, 1)


def _fit(work: Path, until: int | None = None) -> tuple[nn.Module, list[str]]:
    torch.manual_seed(7)
    said: list[str] = []
    true = torch.tensor([1.0, -2.0, 0.5])

    def loss(network: nn.Module, rng: np.random.Generator, device: torch.device) -> torch.Tensor:
        x = torch.from_numpy(rng.normal(0, 1, (32, 3)).astype(np.float32))
        noisy = x + 0.01 * torch.randn_like(x)
        return nn.functional.mse_loss(network.line(noisy)[:, 0], x @ true)

    def held(network: nn.Module, device: torch.device) -> float:
        return float((network.line.weight[0].detach() - true).abs().max())

    schedule = Schedule(300, 3e-2, warmup=10, mean=0.9, every=50, precision="no")
    return train(_Line(), loss, held, schedule, work, said.append, until), said


def test_the_loop_learns_and_goes_on_after_a_stop(tmp_path: Path) -> None:
    whole, said = _fit(tmp_path / "whole")
    assert len(said) == 6 and "held out" in said[0]
    assert torch.allclose(whole.line.weight[0], torch.tensor([1.0, -2.0, 0.5]), atol=0.02)
    _fit(tmp_path / "cut", until=150)
    again, rest = _fit(tmp_path / "cut")
    assert len(rest) == 3
    for a, b in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    rows = list(csv.reader((tmp_path / "cut" / LOSSES).open()))
    assert rows == list(csv.reader((tmp_path / "whole" / LOSSES).open())) and len(rows) == 7
    assert (tmp_path / "cut" / PLOT).read_bytes()[1:4] == b"PNG"
    assert not list((tmp_path / "cut").glob("*.part")) and (tmp_path / "cut" / STATE).is_file()


def test_a_run_goes_on_with_the_same_settings_only(talks, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    emodiff.run(_settings(), talks, tmp_path, lambda line: None, until=10)
    with pytest.raises(OptionError, match="a run with other settings; ask for the same"):
        emodiff.run(_settings(style="none"), talks, tmp_path, lambda line: None)


def test_too_few_clips_are_said_before_training(talks, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DatasetError, match="6 clips of split train and 0 of val"):
        emodiff.run(_settings(), talks[:6], tmp_path, lambda line: None)


def test_only_the_network_runs_in_half_precision(talks, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    kinds: list[torch.dtype] = []

    def loss(network: nn.Module, rng: np.random.Generator, device: torch.device) -> torch.Tensor:
        x = torch.from_numpy(rng.normal(0, 1, (4, 3)).astype(np.float32))
        kinds.extend([(x @ x.T).dtype, network(x).dtype])
        return (network(x) ** 2).mean()

    train(nn.Linear(3, 1), loss, lambda network, device: 0.0, Schedule(2, 1e-3, precision="bf16"), tmp_path, str)
    assert set(kinds) == {torch.float32}


def test_the_rate_warms_up_and_ends_at_zero() -> None:
    schedule = Schedule(100, 1.0, warmup=10)
    factors = [schedule.factor(step) for step in range(101)]
    assert factors[0] == 0.1 and max(factors) == 1 and factors[-1] == pytest.approx(0)
    assert factors[55] == pytest.approx(0.5)


@pytest.mark.parametrize("style", ["positional", "label"])
def test_emodiff_trains_and_drives(talks, style: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    said: list[str] = []
    network = emodiff.run(_settings(style=style), talks, tmp_path / "work", said.append)
    losses = [float(line.split("held out ")[1]) for line in said]
    assert losses[-1] < losses[0]
    bank = network.talking.numpy()
    assert bank.shape == (32, 8, 58) and bank[..., :52].min() >= 0 and bank[..., :52].max() <= 1
    network.half().save_pretrained(tmp_path / "weights")
    loaded = weights.load(EmoDiff, tmp_path / "weights")
    assert torch.allclose(loaded.std, network.std.float(), atol=1e-3)
    motions = list(EmoDiffDrive(loaded, steps=4).stream(iter([np.zeros(32_000, np.float32)])))
    assert sum(map(len, motions)) == 50


def test_the_loss_of_a_perfect_network_is_zero(talks) -> None:  # type: ignore[no-untyped-def]
    network = EmoDiff(hidden=32, layers=1)
    windows = emodiff.Windows(talks, _settings())
    emodiff.whiten(network, windows)
    scheduler = emodiff.scheduler_for_training()
    batch = windows(4, np.random.default_rng(0))
    clean = network.normalise(torch.from_numpy(batch.motion))

    class Perfect(nn.Module):
        def forward(self, noisy, t, *rest):  # type: ignore[no-untyped-def]
            kept = scheduler.alphas_cumprod[t][:, None, None]
            return (noisy - kept.sqrt() * clean) / (1 - kept).sqrt()

    def loss_of(module: nn.Module) -> float:
        torch.manual_seed(0)
        return float(emodiff.diffusion_loss(module, network, batch, 0.1, torch.device("cpu"), scheduler).detach())

    assert loss_of(Perfect()) < 1e-3 < loss_of(network)


def _examples(talks: list[Talk]) -> list[refinement.Example]:
    examples = []
    for talk in talks:
        lips = talk.motion[:, list(refinement.LIPS)]
        muffled = np.stack([np.convolve(x, np.ones(5) / 5, "same") for x in lips.T], 1).astype(np.float32)
        examples.append(refinement.Example(talk, Heard(muffled, np.ones(len(talk), np.float32), talk.mel)))
    return examples


def test_refinement_trains(talks, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    schedule = Schedule(40, 3e-3, warmup=5, every=20, precision="no")
    chosen = refinement.Settings(frames=16, hidden=16, batch=8, schedule=schedule)
    said: list[str] = []
    expert = weights.load(SyncExpert, "sync")
    network = refinement.run(chosen, _examples(talks), expert, tmp_path, said.append)
    assert isinstance(network, EmotionalResidue)
    losses = [float(line.split("held out ")[1]) for line in said if line.startswith("step")]
    assert losses[-1] < losses[0]
    assert not any(parameter.requires_grad for parameter in expert.parameters())


def test_lips_that_are_right_cost_nothing_but_sync(talks) -> None:  # type: ignore[no-untyped-def]
    chosen = refinement.Settings(frames=16)
    batch = refinement.Crops(_examples(talks), chosen)(8, np.random.default_rng(0))
    loss = refinement.RefinementLoss(weights.load(SyncExpert, "sync"), Rig.load(), chosen, np.ones(29, np.float32))
    right, wrong = loss.parts(batch.lips, batch), loss.parts(batch.lips.roll(5, 1), batch)
    for name in ("coefficients", "geometry"):
        assert float(right[name]) == pytest.approx(0, abs=1e-5) and float(wrong[name]) > 0.005
    assert float(right["correlation"]) < float(wrong["correlation"])
    assert batch.sound.shape == (8, 64, 80) and batch.emotion.shape == (8, 16, 8, 52)
    assert float(right["sync"]) > 0
