"""Stages of PortraitTalk's training: what learns, what is masked, what came before."""

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
from safetensors.torch import load_file

from magictalk.errors import OptionError
from magictalk.render.diffusion.animate import AnimateNet
from magictalk.render.diffusion.reference import IDENTITY_PARTS, ReferenceNet
from magictalk.render.diffusion.schedule import alphas
from magictalk.train import portrait_talk
from magictalk.train.loop import Schedule
from magictalk.train.masking import Masking
from magictalk.train.pictures import Clip
from magictalk.train.portrait_talk import (
    STAGES,
    Frames,
    Portraying,
    Settings,
    cleaned,
    made,
    mask_loss,
    networks_of,
    noised,
    restoring_noise,
    settings_for,
)
from magictalk.train.videos import videos_of

SIDE = 32
TINY: dict[str, Any] = {"channels": (16, 32), "layers": 1, "heads": 2, "width": 12, "groups": 8, "fold": 2}


@pytest.fixture(scope="module")
def settings() -> Settings:
    schedule = Schedule(4, 1e-3, warmup=1, every=2, mean=0.5, precision="no")
    stages = tuple(replace(s, schedule=schedule, videos=2) for s in STAGES)
    return Settings(side=SIDE, looks=2, masking=Masking(0.3), stages=stages)


@pytest.fixture(scope="module")
def base() -> tuple[ReferenceNet, AnimateNet]:
    """MAGIC-Talk's networks, after some training."""
    torch.manual_seed(0)
    reference = ReferenceNet(**TINY, identity_width=128, identity_tokens=2, frames=8, motion_heads=2, velocity=True)
    animate = AnimateNet(**TINY, control_channels=(4, 8, 8))
    animate.clone(reference)
    for layer in (animate.net.controlnet_mid_block, *animate.net.controlnet_down_blocks):
        torch.nn.init.normal_(layer.weight, std=0.1)
    return reference, animate


@pytest.fixture(scope="module")
def frames(
    settings: Settings,
    vae: Any,
    oval_clip: Callable[..., Clip],
    reader: Any,
    nobody: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> Frames:
    table = tmp_path_factory.mktemp("captions") / "captions.csv"
    rng = np.random.default_rng(0)
    clips = [
        replace(oval_clip(i, frames=20), heads=(rng.random((20, SIDE, SIDE)) < 0.1).astype(np.uint8) * np.uint8(255))
        for i in range(3)
    ]
    return Frames(videos_of(clips, vae, reader, nobody, table, settings))


def test_frames_come_with_those_before_them(frames: Frames) -> None:
    now, before = frames.draw(4, np.random.default_rng(0), varied=False)
    assert now.latents.shape == (4, 4, 1, 16, 16) and now.face.shape == (4, portrait_talk.PICTURES, 128)
    assert now.previous.shape == now.contour.shape == now.pictures.shape == (4, 3, SIDE, SIDE)
    assert torch.equal(now.previous, before.pictures) and torch.equal(now.face, before.face)
    for i in range(4):
        clip = next(c for c in frames.videos.clips if (_pixels(now.pictures[i]) == c.frames).all((1, 2, 3)).any())
        places = [t for t in range(2, 20) if np.array_equal(_pixels(now.contour[i])[..., 0], clip.heads[t - 1])]  # type: ignore[index]
        (t,) = places  # outlines are all different
        assert np.array_equal(_pixels(now.pictures[i]), clip.frames[t])
        assert np.array_equal(_pixels(now.previous[i]), clip.frames[t - 1])
        assert np.array_equal(_pixels(before.previous[i]), clip.frames[t - 2])


def _pixels(picture: torch.Tensor) -> np.ndarray:
    return ((picture + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()


def test_now_and_then_any_frame_comes_before(frames: Frames) -> None:
    """As the portrait does before the first one."""
    now, _ = frames.draw(300, np.random.default_rng(0))
    apart = []
    for i in range(300):
        for of in frames.videos.shown:
            for shown in of:
                heads = shown.clip.heads
                assert heads is not None
                at = [t for t, head in enumerate(heads) if np.array_equal(_pixels(now.contour[i])[..., 0], head)]
                own = [t for t, f in enumerate(shown.clip.frames) if np.array_equal(_pixels(now.pictures[i]), f)]
                if len(at) == 1 and own:
                    apart.append(at[0] + 1 not in own)
    assert 0.02 < np.mean(apart) < 0.25


def test_restoring_undoes_masks_and_is_plain_noise_without_them() -> None:
    z, epsilon = torch.randn(2, 4, 1, 8, 8), torch.randn(2, 4, 1, 8, 8)
    alpha = torch.tensor([0.9, 0.2])
    assert torch.allclose(restoring_noise(noised(z, epsilon, alpha), z, alpha), epsilon, atol=1e-5)
    masked = noised(torch.where(torch.rand_like(z) < 0.3, torch.randn_like(z), z), epsilon, alpha)
    assert torch.allclose(cleaned(masked, restoring_noise(masked, z, alpha), alpha), z, atol=1e-5)


def test_the_mask_loss_is_equation_1_in_errors_of_latents() -> None:
    found, noisy, z = (torch.randn(2, 4, 1, 8, 8) for _ in range(3))
    weight, alpha = torch.rand(2, 1, 1, 8, 8), torch.tensor([0.9, 0.2])
    by_hand = []
    for i, a in enumerate((0.9, 0.2)):
        restored = (noisy[i].numpy() - (1 - a) ** 0.5 * found[i].numpy()) / a**0.5
        by_hand.append((weight[i].numpy() * (restored - z[i].numpy()) ** 2).mean())
    assert float(mask_loss(found, noisy, z, weight, alpha)) == pytest.approx(np.mean(by_hand), rel=1e-4)


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_gradients_reach_exactly_what_a_stage_trains(
    settings: Settings, base: tuple[ReferenceNet, AnimateNet], frames: Frames, stage: Any
) -> None:
    network = Portraying(*networks_of(settings, *base), stage)
    portrait_talk.freeze(network, stage)
    batch, _ = frames.draw(1, np.random.default_rng(0), varied=False)
    network(batch, torch.randn(batch.latents.shape), torch.tensor([10])).sum().backward()
    touched = {name for name, p in network.named_parameters() if p.grad is not None}
    wanted = {name for name, _ in network.named_parameters() if re.match(stage.learns, name)}
    assert touched == wanted and wanted
    assert {name.split(".")[0] for name in wanted} == {
        "identity": {"reference"}, "animate": {"animate"}, "together": {"animate", "reference"},
        "drift": {"animate", "reference"}, "anchored": {"animate", "reference"},
    }[stage.name]  # fmt: skip
    assert any("previous" in name for name in wanted) is (stage.name in ("together", "drift", "anchored"))


def test_it_begins_as_magic_talk_does(
    settings: Settings, base: tuple[ReferenceNet, AnimateNet], frames: Frames
) -> None:
    """Without its temporal attention it is MAGIC-Talk's networks, given the head's outline as the contour."""
    network = Portraying(*networks_of(settings, *base), replace(STAGES[1], previous=False)).eval()
    batch, _ = frames.draw(2, np.random.default_rng(0), varied=False)
    x, t = torch.randn(batch.latents.shape), torch.tensor([7, 7])
    reference, animate = (each.eval() for each in base)
    with torch.inference_mode():
        control = animate(x, t, batch.text, batch.landmarks[:, :, None], batch.contour)
        mine = network.control(batch, x, t)
        assert all(
            torch.allclose(a, b, atol=1e-5) for a, b in zip((*control[0], control[1]), (*mine[0], mine[1]), strict=True)
        )
        still = network(batch, x, t)
        own = network.reference(x, t, batch.text, batch.face[:, 0], mine)
    assert torch.allclose(still, own, atol=1e-5)  # four times the same picture is one
    kept = reference.unet.state_dict()
    assert all(torch.equal(v, kept[k]) for k, v in network.reference.unet.state_dict().items())


def test_what_the_networks_make_is_near_what_they_see(
    settings: Settings, base: tuple[ReferenceNet, AnimateNet], frames: Frames, vae: Any
) -> None:
    class Knowing(torch.nn.Module):
        """Sees exactly the noise that is there."""

        def forward(self, batch: Any, noisy: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            return restoring_noise(noisy, batch.latents, alphas()[t])

    batch, _ = frames.draw(2, np.random.default_rng(0), varied=False)
    found = made(Knowing(), vae, batch, np.random.default_rng(1), torch.device("cpu"))
    with torch.inference_mode():
        expected = vae.decode(batch.latents[:, :, 0] / 2.0).sample.clamp(-1, 1)
    assert torch.allclose(found, expected, atol=1e-3) and not found.requires_grad


@pytest.mark.parametrize("previous", [True, False])
def test_all_stages_run_and_go_on(
    settings: Settings, base: tuple[ReferenceNet, AnimateNet], frames: Frames, vae: Any, tmp_path: Path, previous: bool
) -> None:
    asked = replace(settings, previous=previous)
    lines: list[str] = []
    reference, animate = portrait_talk.run(
        asked, networks_of(asked, *base), frames, frames, vae, tmp_path, lines.append
    )
    assert [line for line in lines if line.startswith("stage")] == [f"stage {stage.name}" for stage in STAGES]
    assert animate.config["previous"] is previous
    assert all(Image.open(tmp_path / stage.name / "sheet.png").size == (2 * SIDE, 4 * SIDE) for stage in STAGES)
    again, _ = portrait_talk.run(asked, networks_of(asked, *base), frames, frames, vae, tmp_path, lines.append)
    assert all(torch.equal(a, b) for a, b in zip(reference.parameters(), again.parameters(), strict=True))
    portrait_talk.save(reference, animate, tmp_path)
    own = load_file(tmp_path / "identity" / "diffusion_pytorch_model.safetensors")
    assert own and all(re.match(IDENTITY_PARTS, name) for name in own)
    left = {n: v for n, v in reference.state_dict().items() if n not in own}
    assert all(torch.equal(v, base[0].state_dict()[n]) for n, v in left.items())  # the rest is the common network's


def test_the_frame_before_may_be_any_of_the_clips(frames: Frames) -> None:
    """The clip's last frame is before none of it, and so is seen there only when frames are taken from elsewhere."""
    last = [shown.clip.heads[-1] for of in frames.videos.shown for shown in of]
    ends = torch.from_numpy(np.stack(last)) / 127.5 - 1
    for elsewhere, expected in ((0.0, False), (1.0, True)):
        batch, _ = frames.draw(200, np.random.default_rng(0), elsewhere=elsewhere)
        assert any(torch.equal(seen[0], end) for seen in batch.contour for end in ends) is expected


def test_ablations_and_their_names() -> None:
    whole = settings_for(sum(s.schedule.steps for s in STAGES))
    short = settings_for(510, "previous", looks=3, seed=4, ratio=0.5)
    assert [s.schedule.steps for s in whole.stages] == [s.schedule.steps for s in STAGES]
    assert sum(s.schedule.steps for s in short.stages) == 510 and not short.previous and short.contour
    assert short.masking.ratio == 0.5 and short.looks == 3 and short.stages[0].schedule.seed == 4
    assert not any(s.masked for s in settings_for(250, "mask").stages)
    assert settings_for(250, "face").identity == "picture" and not settings_for(250, "contour").contour
    with pytest.raises(OptionError, match="steps are 0; expected 1 or more"):
        settings_for(0)
