from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, ControlNetModel
from torch import Tensor, nn

from magictalk.errors import MagicTalkError, OptionError
from magictalk.render.diffusion.animate import AnimateNet, ControlPair
from magictalk.render.diffusion.denoising import Sampling, VideoDiffusion, Wanted
from magictalk.render.diffusion.fusion import Latents, noise
from magictalk.render.diffusion.reference import ReferenceNet
from magictalk.render.diffusion.schedule import animatediff_scheduler

SHAPE = 4, 8, 8


@pytest.fixture(scope="module")
def video(reference: ReferenceNet, animate: AnimateNet) -> VideoDiffusion:
    torch.manual_seed(4)
    vae = AutoencoderKL(
        block_out_channels=(8, 16), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, norm_num_groups=4,
    )  # fmt: skip
    awake = AnimateNet.from_config(animate.config)
    awake.load_state_dict(animate.state_dict())
    for block in (*awake.net.controlnet_down_blocks, awake.net.controlnet_mid_block):
        nn.init.normal_(block.weight, 0, 0.05)
    return VideoDiffusion(vae, reference, awake, animatediff_scheduler())


@pytest.fixture(scope="module")
def wanted() -> Wanted:
    draw = torch.Generator().manual_seed(0)
    texts, landmarks = torch.randn(20, 5, 12, generator=draw), torch.rand(3, 20, 16, 16, generator=draw) * 2 - 1
    return Wanted(
        20,
        lambda a, b: texts[a:b],
        torch.randn(5, 12, generator=draw),
        torch.randn(10, generator=draw),
        lambda a, b: landmarks[:, a:b],
        torch.rand(3, 16, 16, generator=draw) * 2 - 1,
    )


SHORT = Sampling(steps=4, guidance=2.0, frames=8, overlap=4, seed=5)


def run(video: VideoDiffusion, wanted: Wanted, sampling: Sampling, folder: Path, **options: Any) -> Tensor:
    store = Latents(folder, SHAPE, "job")
    video.begin(store, wanted, sampling, options.pop("frames", None))
    video.denoise(store, wanted, sampling, **options)
    return store.read(0, wanted.length)


def by_hand(video: VideoDiffusion, wanted: Wanted, guidance: float) -> Tensor:
    """One run over a whole clip of eight frames, without segments: DDIM and guidance written out."""
    x = torch.cat(list(noise(8, SHAPE, 5))).transpose(0, 1)[None]
    video.scheduler.set_timesteps(4)
    text, empty = wanted.text(0, 8)[None], wanted.empty.expand(1, 8, -1, -1)
    pictures = wanted.landmarks(0, 8)[None], wanted.contour[None]
    with torch.inference_mode():
        for t in video.scheduler.timesteps:
            control = video.animate(x, t, text, *pictures)
            asked = video.reference(x, t, text, wanted.face[None], control)
            plain = video.reference(x, t, empty, torch.zeros(1, 10), control)
            x = video.scheduler.step(plain + guidance * (asked - plain), int(t), x).prev_sample
    return x[0].transpose(0, 1)


@pytest.mark.parametrize("guidance", [1.0, 2.0, 5.0])
def test_one_segment_is_one_run_with_guidance(
    video: VideoDiffusion, wanted: Wanted, tmp_path: Path, guidance: float
) -> None:
    clip = replace(wanted, length=8)
    made = run(video, clip, replace(SHORT, guidance=guidance), tmp_path)
    assert torch.allclose(made, by_hand(video, wanted, guidance), atol=1e-4)


def test_segments_at_once_or_one_after_the_other_are_the_same(
    video: VideoDiffusion, wanted: Wanted, tmp_path: Path
) -> None:
    one = run(video, wanted, SHORT, tmp_path / "one")
    some = run(video, wanted, replace(SHORT, batch=3), tmp_path / "some")
    assert torch.allclose(one, some, atol=1e-4)


def test_the_seed_decides(video: VideoDiffusion, wanted: Wanted, tmp_path: Path) -> None:
    a, b, c = (run(video, wanted, replace(SHORT, seed=s), tmp_path / n) for n, s in (("a", 5), ("b", 5), ("c", 6)))
    assert torch.equal(a, b) and not torch.allclose(a, c, atol=0.1)


def test_frames_begin_with_noise_in_common(video: VideoDiffusion, wanted: Wanted, tmp_path: Path) -> None:
    store = Latents(tmp_path, SHAPE, "job")
    video.begin(store, wanted, replace(SHORT, shared=1.0))
    begun = store.read(0, wanted.length)
    assert torch.equal(begun, begun[:1].expand_as(begun)) and float(begun.std()) > 0.5


def test_a_job_that_broke_off_goes_on_at_its_step(video: VideoDiffusion, wanted: Wanted, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise Stop

    with pytest.raises(Stop):
        run(video, wanted, SHORT, tmp_path / "a", progress=stop)
    seen: list[tuple[int, int]] = []
    again = run(video, wanted, SHORT, tmp_path / "a", progress=lambda *step: seen.append(step))
    assert seen == [(3, 4), (4, 4)]
    assert torch.equal(again, run(video, wanted, SHORT, tmp_path / "b"))


def test_control_nets_that_read_text_see_both_halves(
    reference: ReferenceNet, video: VideoDiffusion, wanted: Wanted, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    nets = [
        ControlNetModel(
            block_out_channels=(16, 32), layers_per_block=1, cross_attention_dim=12, norm_num_groups=8,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), attention_head_dim=2,
            conditioning_embedding_out_channels=(4, 8),
        )
        for _ in range(2)
    ]  # fmt: skip
    for net in nets:
        for block in (*net.controlnet_down_blocks, net.controlnet_mid_block):
            nn.init.normal_(block.weight, 0, 0.1)
    pair = VideoDiffusion(video.vae, reference, ControlPair(*nets), animatediff_scheduler())
    clip = replace(wanted, length=8)
    x = torch.cat(list(noise(8, SHAPE, 5))).transpose(0, 1)[None]
    t = torch.tensor(500)
    pair.scheduler.set_timesteps(4)
    text, empty, guided = wanted.text(0, 8)[None], wanted.empty.expand(1, 8, -1, -1), replace(SHORT, guidance=3.0)
    with torch.inference_mode():
        made = pair.step(x, [0], clip, guided, t)
        pictures = wanted.landmarks(0, 8)[None], wanted.contour[None]
        halves = [
            reference(x, t, tokens, face, pair.animate(x, t, tokens, *pictures))
            for tokens, face in ((empty, torch.zeros(1, 10)), (text, wanted.face[None]))
        ]
        expected = pair.scheduler.step(halves[0] + 3.0 * (halves[1] - halves[0]), 500, x).prev_sample
    assert torch.allclose(made, expected, atol=1e-4)


class TestStartingFromOtherFrames:
    @pytest.fixture
    def frames(self) -> np.ndarray:
        return np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), np.uint8)

    def test_without_strength_they_only_pass_the_autoencoder(
        self, video: VideoDiffusion, wanted: Wanted, tmp_path: Path, frames: np.ndarray
    ) -> None:
        made = run(video, wanted, replace(SHORT, strength=0.0), tmp_path, frames=frames)
        assert torch.allclose(made, torch.cat(list(video.encode(frames))), atol=1e-6)

    @pytest.mark.parametrize("strength", [0.25, 0.5, 1.0])
    def test_so_many_steps_are_taken(
        self, video: VideoDiffusion, wanted: Wanted, tmp_path: Path, frames: np.ndarray, strength: float
    ) -> None:
        steps: list[tuple[int, int]] = []
        run(
            video, wanted, replace(SHORT, strength=strength), tmp_path, frames=frames,
            progress=lambda *step: steps.append(step),
        )  # fmt: skip
        taken = round(4 * strength)
        assert steps == [(i + 1, taken) for i in range(taken)]

    def test_less_strength_stays_nearer(
        self, video: VideoDiffusion, wanted: Wanted, tmp_path: Path, frames: np.ndarray
    ) -> None:
        clean = torch.cat(list(video.encode(frames)))
        away = [
            float((run(video, wanted, replace(SHORT, strength=s), tmp_path / str(s), frames=frames) - clean).norm())
            for s in (0.25, 0.5, 1.0)
        ]
        assert away == sorted(away)


def test_frames_are_decoded_a_few_at_a_time(video: VideoDiffusion, wanted: Wanted, tmp_path: Path) -> None:
    store = Latents(tmp_path, SHAPE, "job")
    store.keep(0, noise(20, SHAPE, 0))
    frames = np.stack(list(video.decode(store, 20)))
    assert frames.shape == (20, 16, 16, 3) and frames.dtype == np.uint8
    with torch.inference_mode():
        whole = video.vae.decode(store.read(0, 20) / video.vae.config.scaling_factor).sample
    assert np.allclose(frames, ((whole.clamp(-1, 1) + 1) * 127.5).round().permute(0, 2, 3, 1), atol=1)


class TestMemory:
    def refuse(self, video: VideoDiffusion, more_than: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        asked: list[int] = []
        plain = VideoDiffusion.step

        def step(self: VideoDiffusion, x: Tensor, *rest: Any) -> Tensor:
            asked.append(len(x))
            if len(x) > more_than:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return plain(self, x, *rest)

        monkeypatch.setattr(VideoDiffusion, "step", step)
        return asked

    def test_a_smaller_batch_is_tried(
        self, video: VideoDiffusion, wanted: Wanted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        expected = run(video, wanted, SHORT, tmp_path / "one")
        asked = self.refuse(video, 2, monkeypatch)
        made = run(video, wanted, replace(SHORT, batch=4), tmp_path / "some")
        assert asked[0] == 4 and set(asked[1:]) == {2}
        assert torch.allclose(made, expected, atol=1e-4)

    def test_then_it_is_said_what_to_do(
        self, video: VideoDiffusion, wanted: Wanted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = self.refuse(video, 0, monkeypatch)
        with pytest.raises(MagicTalkError, match="out of memory with 2 segments of 8 frames at once; take fewer"):
            run(video, wanted, replace(SHORT, batch=4), tmp_path)
        assert asked == [4, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps is 0; expected 1 to 1000"),
        ({"strength": 1.2}, "strength is 1.2; expected 0 to 1"),
        ({"shared": -0.1}, "shared noise is -0.1; expected 0 to 1"),
        ({"overlap": 16}, "overlap by 16; expected 0 to 15"),
        ({"weights": {"identity": -1}}, "weight of identity is -1; expected 0 to 4"),
        ({"weights": {"audio": 1}}, "no condition named 'audio'; expected text, identity, landmarks, contour"),
    ],
)
def test_options_out_of_range_are_said(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Sampling(**options)


def test_the_schedule_is_animate_diffs() -> None:
    scheduler = animatediff_scheduler()
    assert torch.allclose(scheduler.betas, torch.linspace(0.00085, 0.012, 1000))
    scheduler.set_timesteps(25)
    assert int(scheduler.timesteps[0]) == 999 and int(scheduler.timesteps[-1]) == 0


def test_networks_may_reckon_in_halves(video: VideoDiffusion, wanted: Wanted, tmp_path: Path) -> None:
    """The full tier does on a GPU; latents stay whole between steps."""
    exact = run(video, wanted, SHORT, tmp_path / "exact")
    networks = copy.deepcopy((video.vae, video.reference, video.animate))
    half = VideoDiffusion(*(network.to(torch.bfloat16) for network in networks), video.scheduler)
    rough = run(half, wanted, SHORT, tmp_path / "rough")
    assert rough.dtype == torch.float32 and 0 < float((rough - exact).abs().mean()) < 0.05 * float(exact.abs().mean())
    assert next(half.decode(Latents(tmp_path / "rough", SHAPE, "job"), 20)).dtype == np.uint8
