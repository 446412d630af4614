"""MCDM's motion prior: what leads what, and that nothing later changes anything earlier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.signal import lfilter

from magictalk import Motion, weights
from magictalk.audio.fronts import LogMelFront
from magictalk.drive.audio2bs import Audio2BS, Audio2BSDrive
from magictalk.drive.motion_prior import (
    BEGUN,
    CONTEXT,
    GOES_ON,
    HEAD,
    HOP,
    SILENT,
    SLOTS,
    STREAMS,
    VALUES,
    MotionPrior,
    MotionPriorDrive,
    MotionTokens,
    past,
    progressive,
    rows_of,
)
from magictalk.errors import OptionError

FRAMES = 6


@pytest.fixture(scope="module")
def prior() -> MotionPrior:
    torch.manual_seed(0)
    return MotionPrior(token=4, width=16, layers=2, heads=2, features=10, ahead=1, image=5).eval()


@pytest.fixture
def given() -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    shapes = {"noisy": (2, FRAMES, 3, 4), "heard": (2, FRAMES + 1, 10), "image": (2, 5)}
    made = {name: torch.randn(*shape, generator=draw) for name, shape in shapes.items()}
    return {**made, "timestep": torch.tensor([3, 700])}


def say(prior: MotionPrior, given: dict[str, torch.Tensor], **others: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return prior(**(given | others))


def changed_at(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Which tokens ``[f, 3]`` differ in the first video."""
    return ((a - b).abs().amax(-1) > 1e-6)[0]


def test_streams_are_all_of_a_frame() -> None:
    assert sorted(i for own in STREAMS.values() for i in own) == list(range(VALUES))
    assert len(STREAMS["head"]) == 6 and len(STREAMS["lips"]) == 29 and list(STREAMS)[HEAD] == "head"


def test_a_later_token_never_changes_an_earlier_output(prior: MotionPrior, given: dict[str, torch.Tensor]) -> None:
    """Frame by frame for what is heard, and token by token within a frame."""
    plain = say(prior, given)
    for t in range(FRAMES):
        heard = given["heard"].clone()
        heard[0, t + 1] += 1  # which frame t hears ahead
        differs = changed_at(say(prior, given, heard=heard), plain)
        assert not differs[:t].any() and differs[t].all()
        for kind in range(3):
            noisy = given["noisy"].clone()
            noisy[0, t, kind] += 1
            differs = changed_at(say(prior, given, noisy=noisy), plain).flatten()
            assert not differs[: 3 * t + kind].any() and differs[3 * t + kind]
    assert torch.equal(say(prior, given)[1], plain[1])


def test_who_is_seen_and_the_step_lead_every_frame(prior: MotionPrior, given: dict[str, torch.Tensor]) -> None:
    plain = say(prior, given)
    assert changed_at(say(prior, given, image=given["image"] + 1), plain).all()
    assert changed_at(say(prior, given, timestep=given["timestep"] + 50), plain).all()


def test_film_is_a_scale_and_a_shift_of_what_is_heard(prior: MotionPrior, given: dict[str, torch.Tensor]) -> None:
    """Against a direct computation."""
    with torch.inference_mode():
        tokens = prior.sequence(given["noisy"], given["timestep"], given["heard"], given["image"], None, None)
    own = {name: p.detach().numpy() for name, p in prior.named_parameters()}
    film = given["image"].numpy() @ own["film.weight"].T + own["film.bias"]
    rows = given["heard"].numpy()
    windows = np.stack([rows[:, :-1], rows[:, 1:]], -1).reshape(2, FRAMES, 20)
    heard = windows @ own["heard.weight"].T + own["heard.bias"]
    expected = heard * (1 + film[:, None, :16]) + film[:, None, 16:]
    assert tokens.shape == (2, FRAMES, len(SLOTS), 16)
    assert np.allclose(tokens[:, :, SLOTS.index("heard")].numpy(), expected, atol=1e-5)


def test_a_driving_head_leads_and_its_noise_is_not_asked_for(
    prior: MotionPrior, given: dict[str, torch.Tensor]
) -> None:
    landmarks = torch.randn(2, FRAMES, 4, generator=torch.Generator().manual_seed(2))
    plain, led = say(prior, given), say(prior, given, landmarks=landmarks)
    assert not led[:, :, HEAD].any() and not torch.allclose(led[:, :, 1:], plain[:, :, 1:], atol=1e-4)
    noisy = given["noisy"].clone()
    noisy[:, :, HEAD] += 5
    assert torch.equal(say(prior, given, landmarks=landmarks, noisy=noisy), led)
    half = say(prior, given, landmarks=landmarks, guided=torch.tensor([True, False]))
    assert torch.allclose(half[0], led[0], atol=1e-6) and torch.allclose(half[1], plain[1], atol=1e-6)


def test_tokens_are_of_one_length_and_give_motion_back_when_trained(tmp_path: Path) -> None:
    torch.manual_seed(0)
    motion = torch.rand(400, VALUES) @ torch.diag((torch.arange(VALUES) % 4 == 0).float())  # few numbers move
    tokens = MotionTokens(width=24, hidden=64)
    tokens.mean.copy_(motion.mean(0))
    tokens.std.copy_(motion.std(0).clamp(min=0.05))
    found = tokens.encode(motion)
    assert found.shape == (400, 3, 24) and torch.allclose(found.square().mean(-1), torch.ones(400, 3), atol=1e-4)
    optimiser = torch.optim.Adam(tokens.parameters(), 3e-3)
    losses = []
    for _ in range(150):
        loss = (tokens(motion) - motion).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
    tokens.eval().save_pretrained(tmp_path)
    again = weights.load(MotionTokens, tmp_path)
    assert torch.equal(again(motion), tokens(motion))


def test_a_token_holds_its_own_numbers_only() -> None:
    torch.manual_seed(0)
    tokens, motion = MotionTokens(), torch.rand(5, VALUES)
    plain = tokens.encode(motion)
    for i, own in enumerate(STREAMS.values()):
        other = motion.clone()
        other[:, list(own)] += 1
        differs = (tokens.encode(other) - plain).abs().amax((0, 2)) > 1e-5
        assert differs.tolist() == [j == i for j in range(3)]


@pytest.fixture(scope="module")
def networks() -> tuple[MotionTokens, MotionPrior, Audio2BSDrive]:
    torch.manual_seed(0)
    ear = Audio2BSDrive(Audio2BS(hidden=8, layers=1))
    return MotionTokens(width=4), MotionPrior(token=4, width=16, layers=1, heads=2, image=5), ear


@pytest.fixture(scope="module")
def sound() -> np.ndarray:
    rng = np.random.default_rng(0)
    return (0.1 * rng.standard_normal(5 * 16000)).astype(np.float32)


def test_the_past_is_seen_the_nearer_the_sooner_and_nothing_later() -> None:
    bias = past(torch.tensor([0, 0, 1, 3]), heads=2)
    expected = [[[0, -np.inf, -np.inf, -np.inf], [0, 0, -np.inf, -np.inf], [-1, -1, 0, -np.inf], [-3, -3, -2, 0]]]
    assert torch.equal(bias[:1], torch.tensor(expected))
    assert torch.equal(bias[1:], torch.tensor(expected) / 4)


def test_progressive_noise_keeps_its_variance_and_goes_on_from_frame_to_frame() -> None:
    white = torch.randn(2000, 6, 3, 4, generator=torch.Generator().manual_seed(0))
    noise = progressive(white)
    assert torch.equal(noise[:, 0], white[:, 0]) and noise.shape == white.shape
    assert torch.allclose(noise.var((0, 3)), torch.ones(6, 3), atol=0.06)
    for kind, alpha in enumerate(GOES_ON):
        together = torch.corrcoef(noise[:, :, kind].movedim(1, 0).flatten(1))
        apart = (torch.arange(6)[:, None] - torch.arange(6)).abs()
        assert torch.allclose(together, (alpha**2 / (1 + alpha**2)) ** (apart / 2), atol=0.04)


def test_noise_of_two_poles_is_one_autoregression_after_another() -> None:
    """Against scipy's: each pole is a filter, and the impulse's answer with itself says how frames go together."""
    white = torch.randn(3000, 12, 3, 4, generator=torch.Generator().manual_seed(0))
    noise = progressive(white, BEGUN)
    for kind, poles in enumerate(BEGUN):
        answer = np.eye(1, 4000)[0]
        for pole in poles:
            answer = lfilter([1], [1, -pole], answer)
        expected = [answer[: len(answer) - k] @ answer[k:] / (answer @ answer) for k in range(12)]
        together = torch.corrcoef(noise[:, :, kind].movedim(1, 0).flatten(1))
        assert np.allclose(together[0], expected, atol=0.03) and np.allclose(together[-1].flip(0), expected, atol=0.03)
        assert torch.allclose(noise[:, :, kind].var((0, 2)), torch.ones(12), atol=0.06)


def test_noise_goes_on_from_noise() -> None:
    white = torch.randn(2, 9, 3, 4, generator=torch.Generator().manual_seed(0))
    whole = progressive(white, BEGUN)
    for first in (2, 5, 8):
        rest = progressive(white[:, first:], BEGUN, whole[:, first - 2 : first])
        assert torch.allclose(rest, whole[:, first:], atol=1e-6)


def test_rows_are_log_mel_and_lips_that_are_read_from_it(networks: Any, sound: np.ndarray) -> None:
    ear = networks[2]
    rows = np.concatenate(list(rows_of(ear, iter([sound]))))
    assert rows.shape == (125, len(SILENT)) == (125, 4 * 80 + 29 + 1)
    front = LogMelFront()
    assert np.allclose(rows[:, :320], np.concatenate([front.push(sound), front.finish()])[:125])
    heard = list(ear.hear(iter([sound])))
    assert np.allclose(rows[:, 320:349], 10 * np.concatenate([each.lips for each in heard]))
    assert np.array_equal(rows[:, 349], np.concatenate([each.speaking for each in heard]))


class TestDrive:
    def drive(self, networks: tuple[MotionTokens, MotionPrior, Audio2BSDrive], **options: Any) -> MotionPriorDrive:
        return MotionPriorDrive(*networks, **({"steps": 3} | options))

    def whole(self, drive: MotionPriorDrive, samples: np.ndarray, size: int = 5000) -> np.ndarray:
        pieces = (samples[i : i + size] for i in range(0, len(samples), size))
        made = Motion.concatenate(list(drive.stream(pieces)))
        return np.concatenate([made.coefficients, made.head], 1)

    @pytest.mark.parametrize("samples", [100, 4000, 16000, 30720, 31360, 40321, 80000])
    def test_motion_is_as_long_as_the_sound(self, networks: Any, sound: np.ndarray, samples: int) -> None:
        assert len(self.whole(self.drive(networks), sound[:samples])) == max(0, round(samples / 640))

    def test_pieces_do_not_matter_and_seeds_do(self, networks: Any, sound: np.ndarray) -> None:
        one = self.whole(self.drive(networks), sound)
        assert np.allclose(one, self.whole(self.drive(networks), sound, size=777), atol=1e-4)
        assert np.abs(one - self.whole(self.drive(networks, seed=1), sound)).max() > 0.01
        assert one[:, :52].min() >= 0 and one[:, :52].max() <= 1

    def test_windows_go_on_from_those_before(self, networks: Any) -> None:
        """What a window was given as known goes the way that it went, and leads the rest."""
        drive = self.drive(networks)
        known = torch.randn(drive.steps + 1, CONTEXT, 3, 4)
        rows = torch.randn(1, CONTEXT + HOP + 5, len(SILENT))
        found = drive._window(rows, known, HOP, torch.Generator().manual_seed(0))
        assert found.shape == (4, CONTEXT + HOP, 3, 4) and torch.equal(found[:, :CONTEXT], known)
        other = drive._window(rows, known.flip(1), HOP, torch.Generator().manual_seed(0))
        assert not torch.allclose(found[-1, CONTEXT:], other[-1, CONTEXT:], atol=1e-4)

    def test_no_jump_between_windows(self) -> None:
        """Of the shipped networks: heads, lips and the rest move there as elsewhere."""
        drive = MotionPriorDrive.load()
        drive.steps = 5
        sound = (0.05 * np.random.default_rng(0).standard_normal(2 * HOP * 640)).astype(np.float32)
        moved = []
        for drive.seed in range(8):
            tokens = torch.cat(list(drive.token_stream(iter([sound]))))
            with torch.inference_mode():
                moved.append(drive.tokens.decode(tokens).diff(dim=0).abs())
        for own in STREAMS.values():
            speed = torch.stack(moved)[..., list(own)].mean((0, 2))
            assert speed[HOP - 1] < 1.4 * speed.mean()

    def test_a_driving_head_is_followed_forth_and_back(self, networks: Any, sound: np.ndarray) -> None:
        driving = Motion.zeros(20)
        driving.head[:] = 0.1 * np.random.default_rng(1).standard_normal((20, 6))
        drive = self.drive(networks, driving=driving)
        tokens = torch.cat(list(drive.token_stream(iter([sound]))))
        with torch.inference_mode():
            asked = networks[0].encode(torch.from_numpy(np.concatenate([driving.coefficients, driving.head], 1)))
        order = [*range(20), *range(18, -1, -1), *range(1, 20)]
        assert torch.allclose(tokens[: len(order), HEAD], asked[order, HEAD], atol=1e-6)

    @pytest.mark.parametrize(
        ("options", "says"), [({"seed": -1}, "seed is -1; expected 0 to"), ({"steps": 0}, "steps are 0; expected 1 to")]
    )
    def test_bad_options(self, networks: Any, options: dict[str, int], says: str) -> None:
        with pytest.raises(OptionError, match=says):
            self.drive(networks, **options)
