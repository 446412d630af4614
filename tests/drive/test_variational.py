from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from magictalk import weights
from magictalk.audio.fronts import LogMelFront, load_hubert
from magictalk.drive.variational import (
    CHUNK_FRAMES,
    KEY_POINTS,
    LIPS,
    PARTS,
    PointFit,
    VariationalDrive,
    VariationalMotion,
)
from magictalk.errors import OptionError, WeightsError
from magictalk.face.rig import Rig, inner_lip_gap
from magictalk.metrics.functional.landmarks import IBUG_68
from magictalk.motion import ARKIT, GROUPS, Motion
from magictalk.speech import Speech


@pytest.fixture(scope="module")
def tiny() -> VariationalMotion:
    """Random weights that move a face; its flow is no identity."""
    torch.manual_seed(0)
    network = VariationalMotion(hidden=16, latent=6, layers=2, couplings=2).eval()
    for coupling in network.flow.couplings:
        torch.nn.init.normal_(coupling.shift.last.weight, 0, 0.3)
    network.basis.copy_(0.1 * torch.linalg.qr(torch.randn(267, 24))[0].T.unflatten(1, (89, 3)))
    return network


@pytest.fixture(scope="module")
def drive(tiny: VariationalMotion) -> VariationalDrive:
    return VariationalDrive(tiny, seed=3, temperature=1.0)


@pytest.fixture(scope="module")
def fit() -> PointFit:
    return PointFit(Rig.load())


@pytest.fixture(scope="module")
def voice() -> np.ndarray:
    return Speech.say("Maybe my mother bought a big brown puppy in Paris.", "en").samples()


@pytest.fixture(scope="module")
def shipped() -> VariationalDrive:
    return VariationalDrive.load(seed=1)


def _noise(n: int) -> np.ndarray:
    return np.random.default_rng(n).normal(0, 0.1, n).astype(np.float32)


def _run(drive: VariationalDrive, samples: np.ndarray, cuts: tuple[int, ...] = ()) -> Motion:
    return Motion.concatenate(list(drive.stream(iter(np.split(samples, sorted(cuts))))))


class TestNetwork:
    def test_the_flow_is_undone_and_keeps_volumes(self, tiny: VariationalMotion) -> None:
        z, condition = torch.randn(1, 6, 5), torch.randn(1, 16, 5)
        noise = tiny.flow(z, condition)
        assert not torch.allclose(noise, z, atol=0.1)
        assert torch.allclose(tiny.flow.inverse(noise, condition), z, atol=1e-5)
        jacobian = torch.autograd.functional.jacobian(lambda x: tiny.flow(x, condition), z).reshape(30, 30)
        assert torch.linalg.det(jacobian).abs() == pytest.approx(1, abs=1e-4)

    def test_the_flow_hears(self, tiny: VariationalMotion) -> None:
        z = torch.randn(1, 6, 5)
        assert not torch.allclose(tiny.flow(z, torch.randn(1, 16, 5)), tiny.flow(z, torch.randn(1, 16, 5)), atol=1e-2)

    def test_the_divergence_is_the_estimate_of_kl(self, tiny: VariationalMotion) -> None:
        """Against densities written down by torch: mean of log q - log p over many draws."""
        torch.manual_seed(1)
        rows, x = torch.randn(1, 16, 320), 0.02 * torch.randn(1, 16, len(KEY_POINTS), 3)
        with torch.inference_mode():
            ours = tiny(rows.expand(6000, -1, -1), x.expand(6000, -1, -1, -1))[1].sum((1, 2))
            heard = tiny.hear(rows)
            mean, spread = tiny.posterior(x, heard)
            q = torch.distributions.Normal(mean, spread.exp())
            z = q.sample((6000,))
            noise = tiny.flow(z[:, 0], tiny.slow(heard).expand(6000, -1, -1))
            log_p = torch.distributions.Normal(0.0, 1.0).log_prob(noise).sum((1, 2))
            log_q = q.log_prob(z).sum((1, 2, 3))
        assert ours.mean() == pytest.approx(float((log_q - log_p).mean()), rel=0.02)
        assert ours.mean() > 0

    @pytest.mark.parametrize("layers", [1, 3])
    def test_nothing_beyond_the_context_is_heard_and_all_but_its_ends_is(self, layers: int) -> None:
        torch.manual_seed(2)
        network = VariationalMotion(hidden=8, latent=4, layers=layers, couplings=2).eval()
        for coupling in network.flow.couplings:
            torch.nn.init.normal_(coupling.shift.last.weight)
        frames, context = 160, network.context
        rows = torch.randn(1, frames, 320, requires_grad=True)
        noise = torch.randn(1, 4, frames // 4, requires_grad=True)
        touched = np.zeros(2 * frames, bool)
        for middle in range(76, 80):  # a latent's frames see unevenly far
            made = network.sample(rows, noise)[0, middle].sum()
            by_rows, by_noise = torch.autograd.grad(made, [rows, noise])
            seen = np.flatnonzero(by_rows[0].abs().sum(1).numpy())
            assert middle - context <= seen[0] and seen[-1] <= middle + context
            latents = np.flatnonzero(by_noise[0].abs().sum(0).numpy())
            assert middle - context <= 4 * latents[0] and 4 * latents[-1] + 3 <= middle + context
            touched[seen - middle + frames] = True
        assert touched[frames - context + 8 : frames + context - 7].all()

    def test_components_are_those_of_the_basis(self, tiny: VariationalMotion) -> None:
        components = torch.randn(2, 8, 24)
        deviations = torch.einsum("btc,cpd->btpd", components, tiny.basis) + tiny.mean
        assert torch.allclose(tiny.components(deviations), components, atol=1e-4)
        made = tiny.sample(torch.randn(1, 16, 320), torch.randn(1, 6, 4))
        again = torch.einsum("btc,cpd->btpd", tiny.components(made), tiny.basis) + tiny.mean
        assert torch.allclose(made, again, atol=1e-5)  # nothing but sums of its directions

    def test_gradients_reach_every_weight(self, tiny: VariationalMotion) -> None:
        parts = tiny(torch.randn(2, 16, 320), torch.randn(2, 16, len(KEY_POINTS), 3))
        total = torch.stack([part.square().mean() for part in parts]).sum()
        grads = torch.autograd.grad(total, list(tiny.parameters()), allow_unused=True)
        assert all(g is not None and g.abs().sum() > 0 for g in grads)

    def test_the_likeliest_motion_is_that_of_no_noise(self, tiny: VariationalMotion) -> None:
        rows = torch.randn(1, 16, 320)
        with torch.inference_mode():
            assert torch.equal(tiny(rows, torch.zeros(1, 16, 89, 3))[2], tiny.sample(rows, torch.zeros(1, 6, 4)))


class TestPointFit:
    def test_key_points_are_the_68_and_the_lips(self) -> None:
        assert set(IBUG_68) <= set(KEY_POINTS) and len(set(KEY_POINTS)) == len(KEY_POINTS)
        assert {ARKIT[i] for i in PARTS[:LIPS]} == {ARKIT[i] for i in GROUPS["lips"]}
        assert not set(PARTS) & set(GROUPS["eyes"])

    @settings(max_examples=25, deadline=None)
    @given(st.lists(st.tuples(st.integers(0, 37), st.floats(0, 1)), max_size=6), st.integers(1, 70))
    def test_points_of_a_face_give_its_shape_back(
        self, fit: PointFit, some: list[tuple[int, float]], frames: int
    ) -> None:
        coefficients = np.zeros((frames, len(PARTS)), np.float32)
        for place, value in some:
            coefficients[:, place] = value
        points = fit.deviations(coefficients)
        found = fit.coefficients(points)
        assert found.shape == coefficients.shape and found.min() >= 0 and found.max() <= 1
        assert np.abs(fit.deviations(found) - points).max() < 0.03
        assert np.allclose(found, found[:1], atol=1e-6)  # frame by frame

    def test_it_is_the_least_of_the_bounded_problem(self, fit: PointFit) -> None:
        from scipy.optimize import lsq_linear

        rng = np.random.default_rng(0)
        points = fit.deviations(rng.uniform(0, 0.6, (3, 38)).astype(np.float32) * (rng.random((3, 38)) < 0.3))
        points = points + rng.normal(0, 0.01, points.shape).astype(np.float32)
        shapes = fit._weigh(fit.shapes.astype(np.float64))
        size = (shapes**2).sum(1).mean()
        # costs as more rows: L2 |c|^2 + 2 L1 c is a square about -L1 / L2
        rows = np.concatenate([shapes.T / size**0.5, fit.L2**0.5 * np.eye(38)])
        for frame, found in zip(points, fit.coefficients(points), strict=True):
            wanted = fit._weigh(frame.astype(np.float64)) / size**0.5
            target = np.concatenate([wanted, np.full(38, -fit.L1 / fit.L2**0.5)])
            best = lsq_linear(rows, target, (0, 1), tol=1e-12).x
            assert np.abs(found - best).max() < 0.01

    def test_the_linear_map_is_the_unbounded_one(self, fit: PointFit) -> None:
        coefficients = np.random.default_rng(1).uniform(0.2, 0.5, (4, 38)).astype(np.float32)
        points = fit.deviations(coefficients)
        found = points.reshape(4, -1) @ fit.linear
        assert np.abs(fit.deviations(found) - points).max() < 0.02

    def test_closed_lips_stay_closed(self, fit: PointFit) -> None:
        coefficients = np.zeros((1, 38), np.float32)
        coefficients[0, [PARTS.index(ARKIT.index(name)) for name in ("jawOpen", "mouthClose")]] = 0.4
        face = np.zeros((1, 52), np.float32)
        face[:, list(PARTS)] = fit.coefficients(fit.deviations(coefficients))
        assert inner_lip_gap(Rig.load().vertices(face))[0] < 0.02


class TestDrive:
    @settings(max_examples=8, deadline=None)
    @given(st.integers(1, 640 * 130), st.data())
    def test_pieces_of_any_sizes_give_the_same(self, drive: VariationalDrive, n: int, data: st.DataObject) -> None:
        samples = _noise(n)
        cuts = tuple(data.draw(st.lists(st.integers(0, n), max_size=6)))
        whole, cut = _run(drive, samples), _run(drive, samples, cuts)
        assert len(whole) == len(cut) == round(n / 640)
        assert np.allclose(whole.coefficients, cut.coefficients, atol=1e-5)
        assert np.allclose(whole.head, cut.head, atol=1e-6)

    def test_windows_are_the_whole(self, drive: VariationalDrive) -> None:
        """The network on all of the sound at once, with silence around it, is what the stream gives."""
        samples, network = _noise(640 * 190), drive.network
        context = network.context
        front = LogMelFront()
        rows = np.concatenate([front.push(samples), front.finish()])
        more = -(-190 // CHUNK_FRAMES) * CHUNK_FRAMES - 190 + context
        rows = np.concatenate([np.tile(front.silence, (context, 1)), rows, np.tile(front.silence, (more, 1))])
        noise = np.stack(
            [np.random.default_rng([3, i]).standard_normal(6, np.float32) for i in range(len(rows) // 4)], 1
        )
        with torch.inference_mode():
            whole = network.sample(torch.from_numpy(rows)[None], torch.from_numpy(noise)[None])[0, context:][:190]
        ours = np.concatenate(list(drive.deviations(iter([samples]))))
        assert ours.shape == (190, len(KEY_POINTS), 3)
        assert np.abs(ours - whole.numpy()).max() < 1e-6
        assert np.abs(ours).max() > 1e-3

    def test_it_reads_no_more_sound_than_it_needs(self, drive: VariationalDrive) -> None:
        given = 0

        def pieces():  # type: ignore[no-untyped-def]
            nonlocal given
            for _ in range(750):
                given += 640
                yield np.zeros(640, np.float32)

        made, furthest = 0, 0
        for motion in drive.stream(pieces()):
            furthest = max(furthest, given // 640 - made)
            made += len(motion)
        assert made == 750
        assert furthest <= CHUNK_FRAMES + drive.network.context + 12

    def test_the_seed_decides(self, tiny: VariationalMotion, voice: np.ndarray) -> None:
        one, same, other = (_run(VariationalDrive(tiny, seed=s, temperature=1.0), voice) for s in (1, 1, 2))
        assert np.array_equal(one.coefficients, same.coefficients) and np.array_equal(one.head, same.head)
        assert not np.allclose(one.coefficients, other.coefficients, atol=0.01)

    def test_temperature_scales_the_noise(self, tiny: VariationalMotion, voice: np.ndarray) -> None:
        def take(seed: int, temperature: float) -> np.ndarray:
            drive = VariationalDrive(tiny, seed=seed, temperature=temperature)
            return np.concatenate(list(drive.deviations(iter([voice]))))

        assert np.array_equal(take(1, 0.0), take(2, 0.0))
        apart = [np.abs(take(1, t) - take(2, t)).mean() for t in (0.2, 0.6, 1.0)]
        assert 0 < apart[0] < apart[1] < apart[2]

    @pytest.mark.parametrize("options", [{"seed": -1}, {"seed": 2**32}, {"temperature": -0.1}, {"temperature": 2.1}])
    def test_options_out_of_range(self, tiny: VariationalMotion, options: dict[str, float]) -> None:
        with pytest.raises(OptionError, match="expected 0 to"):
            VariationalDrive(tiny, **options)  # type: ignore[arg-type]


def test_a_drive_listens_to_hubert(hubert_folder: Path, tmp_path: Path, voice: np.ndarray) -> None:
    torch.manual_seed(0)
    VariationalMotion(front="hubert", features=24, hidden=8, layers=1, couplings=1).save_pretrained(tmp_path)
    drive = VariationalDrive.load(tmp_path, hubert=hubert_folder)
    assert len(_run(drive, voice)) == round(len(voice) / 640)
    other = VariationalMotion(front="hubert", features=768, hidden=8, layers=1, couplings=1)
    with pytest.raises(WeightsError, match="a HuBERT of width 768; got 24"):
        VariationalDrive(other, load_hubert(hubert_folder))
    with pytest.raises(WeightsError, match="width 768; got none"):
        VariationalDrive(other)


class TestShipped:
    """What the weights in the package do."""

    def test_they_are_small(self) -> None:
        network = weights.load(VariationalMotion, "variational")
        assert sum(p.numel() for p in network.parameters()) < 2_000_000

    def test_lips_close_for_closures_and_open_for_vowels(self, shipped: VariationalDrive) -> None:
        gaps = {}
        for text in ("mama mama mama", "aha aha aha"):
            motion = _run(shipped, Speech.say(text, "en").samples())
            gaps[text] = inner_lip_gap(Rig.load().vertices(motion.coefficients))[5:-8]
        assert np.percentile(gaps["mama mama mama"], 10) < 0.05 < np.percentile(gaps["aha aha aha"], 75)

    def test_silence_closes_the_mouth(self, shipped: VariationalDrive) -> None:
        motion = _run(shipped, np.zeros(640 * 60, np.float32))
        assert inner_lip_gap(Rig.load().vertices(motion.coefficients)).max() < 0.02
        assert motion.coefficients[:, list(GROUPS["eyes"])].max() > 0.3  # it blinks

    def test_lips_belong_to_the_sound(self, shipped: VariationalDrive, voice: np.ndarray) -> None:
        from magictalk.sync import SyncJudge

        sync = SyncJudge.load().of_coefficients(_run(shipped, voice).coefficients, voice)
        assert abs(sync.offset_s) <= 0.08 and sync.score_at_zero > 0.3

    def test_seeds_make_takes_of_the_same_words(self, voice: np.ndarray) -> None:
        jaws, brows = [], []
        for seed in (1, 2):
            coefficients = _run(VariationalDrive.load(seed=seed, temperature=1.0), voice).coefficients
            jaws.append(coefficients[:, ARKIT.index("jawOpen")])
            brows.append(coefficients[:, list(GROUPS["brows"])])
        assert np.corrcoef(jaws)[0, 1] > 0.4
        assert np.abs(jaws[0] - jaws[1]).mean() > 0.005 and np.abs(brows[0] - brows[1]).mean() > 0.005
