import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from magictalk import weights
from magictalk.audio.features import features
from magictalk.drive.emodiff import (
    EmoDiff,
    EmoDiffDrive,
    middle,
    nearest_emotion,
    positional_condition,
    scheduler_for_sampling,
    scheduler_for_training,
    steady,
)
from magictalk.drive.lips import LipDrive
from magictalk.errors import OptionError
from magictalk.motion import GROUPS, Motion
from magictalk.speech import Speech
from magictalk.style import EMOTIONS, Style, expression


@pytest.fixture(scope="module")
def tiny() -> EmoDiff:
    torch.manual_seed(0)
    network = EmoDiff(hidden=32, layers=1, heads=2, people=3).eval()
    torch.nn.init.normal_(network.mixture.weight, 0, 0.05)
    network.mean.uniform_(0, 0.2)
    network.std.uniform_(0.05, 0.2)
    network.colours.copy_(torch.linalg.qr(torch.randn(32, 58, 58))[0] * torch.rand(32, 58, 1).add(0.1))
    network.talking.uniform_(0, 0.3)
    return network


@pytest.fixture(scope="module")
def voice() -> np.ndarray:
    return Speech.say("Once upon a time a small boat left the harbour, and nobody saw it again.", "en").samples()


def _run(drive: EmoDiffDrive, samples: np.ndarray, cuts: tuple[int, ...] = ()) -> Motion:
    return Motion.concatenate(list(drive.stream(iter(np.split(samples, sorted(cuts))))))


def _noise(n: int) -> np.ndarray:
    return np.random.default_rng(n).normal(0, 0.1, n).astype(np.float32)


def test_the_condition_is_the_papers_matrix() -> None:
    state, style = torch.rand(2, 58), torch.rand(2, 3, 58)
    c = positional_condition(32, state, style, like=state)
    assert c.shape == (2, 32, 59)
    assert torch.equal(c[:, 0, :58], state) and torch.equal(c[:, 15:18, :58], style)
    held = torch.zeros(32)
    held[[0, 15, 16, 17]] = 1
    assert torch.equal(c[..., 58], held.expand(2, -1))
    assert not c[:, held == 0].any()
    assert middle(32) == slice(15, 18)


@pytest.mark.parametrize("missing", ["state", "style"])
def test_what_is_left_out_of_the_condition_is_empty(missing: str) -> None:
    state, style = torch.rand(1, 58), torch.rand(1, 3, 58)
    c = positional_condition(32, None if missing == "state" else state, None if missing == "style" else style, state)
    assert c[:, 0].any() == (missing != "state") and c[:, 15:18].any() == (missing != "style")


def test_noise_and_mixture_agree_with_the_forward_process(tiny: EmoDiff) -> None:
    clean, noise, t = torch.randn(4, 32, 58), torch.randn(4, 32, 58), torch.tensor([0, 10, 500, 999])
    noisy = scheduler_for_training().add_noise(clean, noise, t)
    kept = scheduler_for_training().alphas_cumprod[t][:, None, None]
    assert torch.allclose(noisy, kept.sqrt() * clean + (1 - kept).sqrt() * noise, atol=1e-5)  # equation 1
    mixture = kept.sqrt() * noise - (1 - kept).sqrt() * clean
    found = (1 - kept).sqrt() * noisy + kept.sqrt() * mixture  # what `predict` makes of a perfect last layer
    assert torch.allclose(found, noise, atol=1e-4)


def test_a_reverse_step_has_the_mean_of_equation_3() -> None:
    scheduler = scheduler_for_training()
    x, noise, t = torch.randn(1, 32, 58), torch.randn(1, 32, 58), 300
    alpha, product = 1 - scheduler.betas[t], scheduler.alphas_cumprod[t]
    mean = (x - (1 - alpha) / (1 - product).sqrt() * noise) / alpha.sqrt()
    draws = torch.stack([scheduler.step(noise, t, x, torch.Generator().manual_seed(i)).prev_sample for i in range(400)])
    assert torch.allclose(draws.mean(0), mean, atol=0.05)
    beta = (1 - scheduler.alphas_cumprod[t - 1]) / (1 - product) * scheduler.betas[t]
    assert draws.std(0).mean() == pytest.approx(float(beta.sqrt()), rel=0.02)


def test_guidance_is_equation_5(tiny: EmoDiff) -> None:
    c, audio, w = torch.randn(1, 32, 59), torch.randn(1, 128, 80), 1.7
    generator = torch.Generator().manual_seed(3)
    x = torch.randn((1, 32, 58), generator=torch.Generator().manual_seed(3))
    scheduler = scheduler_for_sampling("ddim")
    scheduler.set_timesteps(1)
    t = scheduler.timesteps[0]
    with torch.inference_mode():
        with_c, without = tiny(x, t[None], c, audio), tiny(x, t[None], c, audio, torch.tensor([True]))
    expected = scheduler.step((w + 1) * with_c - w * without, t, x).prev_sample
    assert torch.allclose(tiny.sample(c, audio, generator, w, 1, scheduler_for_sampling("ddim")), expected, atol=5e-3)


def test_the_empty_condition_hears_and_sees_nothing(tiny: EmoDiff) -> None:
    x, t, gone = torch.randn(1, 32, 58), torch.tensor([500]), torch.tensor([True])
    with torch.inference_mode():
        one = tiny(x, t, torch.randn(1, 32, 59), torch.randn(1, 128, 80), gone)
        other = tiny(x, t, torch.randn(1, 32, 59), torch.randn(1, 128, 80), gone)
        heard = tiny(x, t, torch.randn(1, 32, 59), torch.randn(1, 128, 80))
    assert torch.equal(one, other) and not torch.allclose(one, heard)


def test_whitening_is_undone_and_colours_noise_like_motion(tiny: EmoDiff) -> None:
    motion = torch.rand(5, 32, 58)
    assert torch.allclose(tiny.denormalise(tiny.normalise(motion)), motion, atol=1e-4)
    slow = EmoDiff(hidden=32, layers=1, heads=2)
    slow.colours[1:] *= 0.01  # faces that hardly move within a window
    assert slow.coloured(torch.randn(50, 32, 58)).diff(dim=1).abs().mean() < 0.02
    from scipy.fft import dct

    assert np.allclose(tiny.waves.numpy() @ motion[0].numpy(), dct(motion[0].numpy(), axis=0, norm="ortho"), atol=1e-4)


@pytest.mark.parametrize("name", ["dpm", "ddim"])
def test_samplers_find_a_known_distribution(name: str) -> None:
    """With the exact noise of standard normal data, either sampler gives back standard normal data."""
    scheduler = scheduler_for_sampling(name)  # type: ignore[arg-type]
    scheduler.set_timesteps(50)
    x = torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    for t in scheduler.timesteps:
        x = scheduler.step((1 - scheduler.alphas_cumprod[int(t)]).sqrt() * x, t, x).prev_sample
    assert x.std() == pytest.approx(1, abs=0.05) and abs(x.mean()) < 0.05


class _Recorder(EmoDiff):
    """The real network, which keeps what it is asked and what it answers."""

    def sample(self, condition, audio, *rest):  # type: ignore[no-untyped-def]
        made = super().sample(condition, audio, *rest)
        self.calls.append((condition, audio, made))
        return made


def _seen(network: EmoDiff, condition: torch.Tensor) -> np.ndarray:
    """The motion that rows of a condition hold."""
    return (condition[..., :58] * network.std + network.mean).numpy()


@pytest.fixture()
def recorder(tiny: EmoDiff) -> _Recorder:
    network = _Recorder(hidden=32, layers=1, heads=2, people=3).eval()
    network.load_state_dict(tiny.state_dict())
    network.calls = []
    return network


@pytest.mark.parametrize("frames", [1, 2, 31, 32, 33, 62, 63, 64, 65, 94, 200])
def test_algorithm_1_gives_every_frame_once(recorder: _Recorder, frames: int) -> None:
    samples = _noise(frames * 640)
    drive = EmoDiffDrive(recorder, blend=0, steps=4, guidance=0)
    windows = list(drive.windows(iter([samples])))
    assert sum(map(len, windows)) == frames
    assert len(windows) == max(1, int(np.ceil((frames - 1) / 31)))
    assert all(len(w) == (32 if i == 0 else 31) for i, w in enumerate(windows[:-1]))
    mel = np.concatenate([features(samples), np.full((4 * 32, 80), -3.5, np.float32)])
    before = None
    for i, (c, audio, made) in enumerate(recorder.calls):
        start = i * 31  # line 16
        there = min(32, frames - start) * 4
        assert np.allclose(audio[0, :there].numpy(), mel[4 * start : 4 * start + there], atol=1e-4)
        if before is not None:
            assert np.allclose(_seen(recorder, c[0, 0]), before, atol=1e-4)  # line 13: begins where the last one ended
        before = recorder.denormalise(made)[0, -1].numpy()
    whole = np.concatenate(windows)
    for i, (_, _, made) in enumerate(recorder.calls):
        expected = recorder.denormalise(made)[0].numpy()
        first = 0 if i == 0 else 1  # the frame that two windows share is the earlier one's
        part = whole[i * 31 + first : i * 31 + 32]
        assert np.allclose(part, expected[first : first + len(part)], atol=1e-5)


def test_lids_rest_between_blinks_and_blinks_stay() -> None:
    rng = np.random.default_rng(0)
    lids = 0.1 + rng.normal(0, 0.03, (60, 2))
    lids[30:34] += np.array([[0.5], [0.85], [0.85], [0.4]])
    calm = steady(lids.astype(np.float32))
    rest = np.r_[3:25, 40:57]
    assert np.abs(np.diff(calm[rest], axis=0)).mean() < 0.5 * np.abs(np.diff(lids[rest], axis=0)).mean()
    assert np.allclose(calm[31:33], lids[31:33], atol=0.08)


def test_style_frames_are_drawn_anew_each_window(recorder: _Recorder) -> None:
    frames = np.random.default_rng(0).random((40, 52), dtype=np.float32)
    style = Style(np.zeros(1), np.zeros((1, 52), np.float32), frames)
    list(EmoDiffDrive(recorder, style, steps=4).stream(iter([_noise(64_000)])))
    drawn = [_seen(recorder, c[0, 15:18])[:, :52] for c, _, _ in recorder.calls]
    for rows in drawn:
        assert all(np.abs(frames - row).max(1).min() < 1e-5 for row in rows)  # frames of the clip, as they are
    assert not np.allclose(drawn[0], drawn[1])


def test_a_new_window_starts_where_the_last_one_ended(tiny: EmoDiff) -> None:
    samples = _noise(640 * 100)
    raw = np.concatenate(list(EmoDiffDrive(tiny, blend=0, steps=4).windows(iter([samples]))))
    eased = np.concatenate(list(EmoDiffDrive(tiny, blend=8, steps=4).windows(iter([samples]))))
    jumps = [np.abs(np.diff(x, axis=0))[[31, 62, 93]].mean() for x in (raw, eased)]
    assert jumps[1] < jumps[0]


@settings(deadline=None, max_examples=8)
@given(st.lists(st.integers(0, 60_000), max_size=12))
def test_pieces_of_any_size_give_the_same_motion(tiny: EmoDiff, voice: np.ndarray, cuts: list[int]) -> None:
    drive = EmoDiffDrive(tiny, Style.emotion("happy"), steps=4, seed=5)
    whole, cut = _run(drive, voice), _run(drive, voice, tuple(cuts))
    assert np.allclose(whole.coefficients, cut.coefficients, atol=1e-4)
    assert np.allclose(whole.head, cut.head, atol=1e-4)


def test_it_streams(tiny: EmoDiff) -> None:
    """Of a sound without an end, only as much is read as the motion needs."""
    read = itertools.count()

    def endless():  # type: ignore[no-untyped-def]
        while True:
            next(read)
            yield _noise(6400)

    motions = EmoDiffDrive(tiny, steps=4).stream(endless())
    made = sum(len(motion) for motion in itertools.islice(motions, 40))
    assert next(read) <= made / 10 + 8  # a piece is ten frames


def test_the_seed_decides(tiny: EmoDiff) -> None:
    one, same, other = (_run(EmoDiffDrive(tiny, steps=4, seed=seed), _noise(30_000)) for seed in (1, 1, 2))
    assert np.array_equal(one.coefficients, same.coefficients) and np.array_equal(one.head, same.head)
    assert not np.allclose(one.coefficients, other.coefficients)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"seed": -1}, "seed is -1"),
     ({"seed": 2**64}, "expected 0 to 4294967295"),
     ({"guidance": 11}, "guidance is 11"), ({"guidance": float("nan")}, "guidance"),
     ({"steps": 3}, "steps are 3; expected 4 to 1000")],
)  # fmt: skip
def test_options_out_of_range(tiny: EmoDiff, options: dict[str, float], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        EmoDiffDrive(tiny, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["label", "none"])
def test_the_ablations_run(kind: str) -> None:
    network = EmoDiff(hidden=32, layers=1, heads=2, people=2, style=kind, start=False).eval()  # type: ignore[arg-type]
    assert len(_run(EmoDiffDrive(network, Style.emotion("sad"), steps=4), _noise(30_000))) == 47


def test_nearest_emotion() -> None:
    for place, label in enumerate(EMOTIONS):
        assert nearest_emotion(expression(label, 0.8)) == place


class TestShipped:
    """The weights in the package."""

    @pytest.fixture(scope="class")
    def network(self) -> EmoDiff:
        return weights.load(EmoDiff, "emodiff")

    def test_sound_decides_the_length(self, network: EmoDiff) -> None:
        drive = EmoDiffDrive.load()
        for n in (400, 640, 15_999, 32_001, 70_000):
            assert len(_run(drive, _noise(n))) == round(n / 640)

    def test_refinement_replaces_the_lips_and_nothing_else(self, voice: np.ndarray) -> None:
        style = Style.emotion("sad", 0.7)
        full, plain = EmoDiffDrive.load(style, seed=3), EmoDiffDrive.load(style, seed=3, refine=False)
        assert isinstance(full.lips, LipDrive) and plain.lips is None
        ours, before = _run(full, voice), _run(plain, voice)
        lips = Motion.concatenate(list(full.lips.stream(iter([voice]))))
        mouth = list(GROUPS["lips"])
        rest = [i for i in range(52) if i not in mouth]
        assert np.array_equal(ours.coefficients[:, mouth], lips.coefficients[:, mouth])
        assert np.array_equal(ours.coefficients[:, rest], before.coefficients[:, rest])
        assert np.array_equal(ours.head, before.head)

    @pytest.mark.parametrize("label", EMOTIONS[1:])
    def test_an_emotion_shows(self, network: EmoDiff, voice: np.ndarray, label: str) -> None:
        plain = _run(EmoDiffDrive(network, seed=1), voice).coefficients.mean(0)
        moved = _run(EmoDiffDrive(network, Style.emotion(label), seed=1), voice).coefficients.mean(0) - plain
        face = expression(label)
        assert moved @ face / np.linalg.norm(moved) / np.linalg.norm(face) > 0.7
        assert 0.5 < moved @ face / (face @ face) < 1.3

    def test_a_timeline_changes_the_face_smoothly(self, voice: np.ndarray) -> None:
        drive = EmoDiffDrive.load(Style.timeline("0s neutral, 2s surprised"), seed=2)
        motion = _run(drive, voice).coefficients[:, list(GROUPS["brows"])].mean(1)
        assert motion[75:].mean() > motion[:45].mean() + 0.15

    def test_the_head_stays_near_the_picture(self) -> None:
        head = _run(EmoDiffDrive.load(seed=4), np.concatenate([_noise(640 * 400), _noise(640 * 400)])).head
        assert np.abs(head[:, :3]).max() < 0.6
        assert np.abs(head[400:, :3].mean(0)).max() < 0.15
