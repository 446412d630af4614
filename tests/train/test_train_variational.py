import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from magictalk import weights
from magictalk.audio.features import features
from magictalk.audio.fronts import LogMelFront
from magictalk.drive.variational import LIPS, PARTS, VariationalDrive, VariationalMotion
from magictalk.errors import DatasetError
from magictalk.face.rig import Rig, inner_lip_gap, jaw_drop, mouth_width
from magictalk.motion import ARKIT
from magictalk.sync import SyncExpert
from magictalk.train import variational
from magictalk.train.loop import Schedule
from magictalk.train.sequences import Talk

JAW, SMILE, BROW = (ARKIT.index(name) for name in ("jawOpen", "mouthSmileLeft", "browInnerUp"))


def _talk(seed: int, frames: int = 90, split: str = "train", kind: str = "people") -> Talk:
    """A made-up clip whose jaw follows its sound, of somebody who smiles all the time."""
    rng = np.random.default_rng(seed)
    loud = np.abs(np.sin(np.arange(frames) * rng.uniform(0.2, 0.5) + rng.uniform(0, 6))).astype(np.float32)
    motion = np.zeros((frames, 58), np.float32)
    motion[:, JAW] = 0.4 * loud
    motion[:, SMILE] = 0.3 + 0.05 * loud
    motion[:, BROW] = 0.2 + 0.1 * np.sin(np.arange(frames) / 9)
    mel = np.repeat(4 * loud - 2, 4)[:, None] + rng.normal(0, 0.1, (4 * frames, 80))
    seen = np.ones(frames, bool)
    seen[:3] = False
    return Talk(str(seed), kind, split, motion, seen, mel.astype(np.float32), (1 - loud) ** 4)


@pytest.fixture(scope="module")
def examples() -> list[variational.Example]:
    talks = [_talk(i, split="val" if i > 5 else "train", kind=("people", "one", "generated")[i % 3]) for i in range(9)]
    return [variational.Example(talk, talk.mel.reshape(len(talk), -1)) for talk in talks]


@pytest.fixture(scope="module")
def expert() -> SyncExpert:
    return weights.load(SyncExpert, "sync")


def _settings(**more) -> variational.Settings:  # type: ignore[no-untyped-def]
    schedule = Schedule(40, 3e-3, warmup=5, every=20, precision="no")
    return variational.Settings(hidden=16, latent=4, batch=6, frames=32, schedule=schedule, **more)


def _loss(examples: list[variational.Example], expert: SyncExpert) -> tuple[variational.MotionLoss, variational.Batch]:
    windows = variational.Windows(examples, _settings(), np.zeros(len(PARTS), np.float32))
    network = variational.fresh(_settings(), examples, windows)
    loss = variational.MotionLoss(Rig.load(), expert, _settings(), windows, network.components)
    return loss, windows(8, np.random.default_rng(0))


class _Answers(nn.Module):
    """A network that knows what it is asked for, or gives what it is told to."""

    def __init__(self, shift: int = 0, scale: float = 1.0, divergence: float = 0.0) -> None:
        super().__init__()
        self.shift, self.scale, self.divergence = shift, scale, divergence

    def forward(self, rows, deviations):  # type: ignore[no-untyped-def]
        found = self.scale * deviations.roll(self.shift, 1)
        return found, torch.full((len(rows), 4, 8), self.divergence), found, found


def test_what_a_face_shows_all_the_time_is_no_deviation(examples) -> None:  # type: ignore[no-untyped-def]
    rest = variational.resting(examples[0].talk)
    assert rest[PARTS.index(SMILE)] == pytest.approx(0.33, abs=0.02) and rest[PARTS.index(BROW)] > 0.15
    assert rest[PARTS.index(JAW)] == 0  # what parts the lips is speech
    usual = variational.usual_rest(examples)
    assert usual[PARTS.index(SMILE)] == pytest.approx(0.33, abs=0.02) and not usual[LIPS:].any()
    batch = variational.Windows(examples, _settings(), usual)(200, np.random.default_rng(0))
    brow = batch.coefficients[..., PARTS.index(BROW)]
    assert abs(float(brow.mean())) < 0.05 < float(brow.std())
    # in a mirror the smile is on the other side
    sides = [batch.coefficients[..., PARTS.index(ARKIT.index(f"mouthSmile{side}"))] for side in ("Left", "Right")]
    assert float(sides[0].mean()) == pytest.approx(0.17, abs=0.04) == float(sides[1].mean())


def test_windows_keep_clear_of_frames_that_cannot_teach(examples) -> None:  # type: ignore[no-untyped-def]
    windows = variational.Windows(examples, _settings(), np.zeros(len(PARTS), np.float32))
    batch = windows(32, np.random.default_rng(1))
    assert batch.coefficients.shape == (32, 32, 38) and batch.rows.shape == (32, 32, 320)
    assert batch.mel.shape == (32, 128, 80)
    known = {row.tobytes() for e in examples for row in e.talk.mel.reshape(-1, 320)[e.talk.seen]}
    assert all(row.numpy().tobytes() in known for window in batch.mel.reshape(32, 32, 320) for row in window)


def test_the_loss_measures_lips_as_the_rig_does(examples, expert) -> None:  # type: ignore[no-untyped-def]
    loss, batch = _loss(examples, expert)
    face = np.zeros((*batch.coefficients.shape[:2], 52), np.float32)
    face[..., list(PARTS)] = batch.coefficients
    mesh = Rig.load().vertices(face)
    expected = np.stack([inner_lip_gap(mesh), mouth_width(mesh), jaw_drop(mesh)], -1)
    assert np.allclose(loss.geometry(loss.deviations(batch.coefficients)), expected, atol=2e-3)


def test_what_is_right_costs_nothing(examples, expert) -> None:  # type: ignore[no-untyped-def]
    loss, batch = _loss(examples, expert)
    right, late, small = (loss.parts(network, batch) for network in (_Answers(), _Answers(4), _Answers(scale=0.4)))
    for name in ("reconstruction", "geometry", "likeliest", "sync"):
        assert float(right[name]) < 0.01 < float(late[name])
    assert float(right["likeness"]) < 0.01
    assert float(small["likeness"]) > 0.3  # mumbling
    assert float(right["divergence"]) == pytest.approx(_settings().free)
    assert float(loss.parts(_Answers(divergence=2.0), batch)["divergence"]) == pytest.approx(2)
    weighed = float(loss(_Answers(4), batch))
    assert weighed == pytest.approx(sum(getattr(_settings(), f"{k}_weight") * float(v) for k, v in late.items()))


def test_the_sync_term_knows_lips_that_belong_to_the_sound(expert) -> None:  # type: ignore[no-untyped-def]
    """Lips of Audio2BS as key points, on time and late."""
    from magictalk.drive.audio2bs import Audio2BSDrive
    from magictalk.speech import Speech

    samples = Speech.say("The quick brown fox jumps over the lazy dog and runs away.", "en").samples()
    motion = np.concatenate([m.coefficients for m in Audio2BSDrive.load().stream(iter([samples]))])
    frames = len(motion)
    talk = Talk("a", "people", "train", np.pad(motion, ((0, 0), (0, 6))), np.ones(frames, bool),
                features(samples)[: 4 * frames], np.zeros(frames, np.float32))  # fmt: skip
    loss, _ = _loss([variational.Example(talk, talk.mel.reshape(frames, -1))], expert)
    real = loss.deviations(torch.from_numpy(motion[None, :, list(PARTS)]))
    mel = torch.from_numpy(talk.mel[None])
    on_time, late = (float(loss.sync(real.roll(shift, 1), mel)) for shift in (0, 8))
    assert on_time < 0.8 * late


def test_a_front_hears_a_row_a_frame() -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, 640 * 30 + 100).astype(np.float32)
    rows = variational.hear("log-mel", samples, 33)
    assert rows.shape == (33, 320)
    assert np.allclose(rows[:30].reshape(-1, 80), features(samples)[:120], atol=1e-4)
    assert (rows[31:] == LogMelFront.silence).all()


def test_it_trains_and_drives(examples, expert, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    said: list[str] = []
    network = variational.run(_settings(), examples, expert, tmp_path / "work", said.append)
    losses = [float(line.split("held out ")[1]) for line in said if line.startswith("step")]
    assert losses[-1] < losses[0] and "divergence" in said[0]
    assert not any(parameter.requires_grad for parameter in expert.parameters())
    network.half().save_pretrained(tmp_path / "weights")
    loaded = weights.load(VariationalMotion, tmp_path / "weights")
    assert torch.allclose(loaded.basis, network.basis.float(), atol=1e-3)
    motions = list(VariationalDrive(loaded).stream(iter([np.zeros(32_000, np.float32)])))
    assert sum(map(len, motions)) == 50


def test_too_few_clips_are_said_before_training(examples, expert, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DatasetError, match="6 clips of split train and 0 of val"):
        variational.run(_settings(), examples[:6], expert, tmp_path, lambda line: None)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--data", "nowhere"], "nowhere"),
        (["--data", ".", "--front", "hubert", "--hubert", "no/such/folder"], "HuBERT"),
    ],
)
def test_what_is_missing_is_said_in_a_line(  # type: ignore[no-untyped-def]
    options: list[str], said: str, tmp_path: Path, monkeypatch, capsys
) -> None:
    given = [*options, "--work", str(tmp_path / "work"), "-o", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["variational", *given])
    with pytest.raises(SystemExit) as end:
        variational.main()
    error = capsys.readouterr().err
    assert end.value.code == 2 and error.startswith("error:") and said in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()
