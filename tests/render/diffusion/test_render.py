"""The diffusion render end to end, with networks of some ten thousand weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from torch import Tensor

import magictalk
from magictalk import Motion, Portrait, Speech
from magictalk.animation import GeneratedAnimation
from magictalk.errors import OptionError, PortraitError, StyleError
from magictalk.motion import ARKIT
from magictalk.render.diffusion.animate import AnimateNet
from magictalk.render.diffusion.denoising import Sampling, VideoDiffusion
from magictalk.render.diffusion.reference import ReferenceNet
from magictalk.render.diffusion.render import DiffusionRender, Drawing, Networks, head_of, spool, spooled
from magictalk.render.diffusion.schedule import animatediff_scheduler
from magictalk.video import read_frames

SIDE = 16
SHORT = Sampling(steps=3, guidance=1.5, frames=8, overlap=4)


class Reader:
    """Reads ten words."""

    def __call__(self, texts: Sequence[str]) -> Tensor:
        seeds = [sum(map(ord, text)) for text in texts]
        return torch.stack([torch.randn(5, 12, generator=torch.Generator().manual_seed(s)) for s in seeds])

    def cut(self, text: str) -> str:
        return " ".join(text.split()[20:])


@pytest.fixture(scope="module")
def portrait(astronaut: np.ndarray) -> Portrait:
    return Portrait.from_array(np.ascontiguousarray(astronaut[:300, 80:400]))


@pytest.fixture(scope="module")
def networks(reference: ReferenceNet, animate: AnimateNet) -> Networks:
    torch.manual_seed(4)
    vae: Any = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4, latent_channels=4,
    )  # fmt: skip
    for layer in (animate.net.controlnet_mid_block, *animate.net.controlnet_down_blocks):
        torch.nn.init.normal_(layer.weight, std=0.1)  # as after some training
    diffusion = VideoDiffusion(vae, reference, animate, animatediff_scheduler())
    return Networks(diffusion, Reader(), lambda picture, mesh: torch.full((10,), float(picture.mean()) / 255), SIDE)


def motion(frames: int = 20, jaw: float = 0.6) -> Motion:
    made = Motion.zeros(frames)
    made.coefficients[:, ARKIT.index("jawOpen")] = jaw * (np.arange(frames) % 4) / 4
    made.head[:, 1] = 0.1 * np.sin(np.arange(frames) / 5)
    return made


def chunks(whole: Motion) -> Iterator[Motion]:
    yield from (whole[:7], whole[7:15], whole[15:])


def drawn(portrait: Portrait, networks: Networks, whole: Motion | None = None, **options: Any) -> np.ndarray:
    drawing = replace(Drawing("a person", sampling=SHORT), **options)
    whole = motion() if whole is None else whole
    return np.stack(list(DiffusionRender(portrait, drawing, networks)(chunks(whole))))


def test_any_motion_becomes_frames_and_the_same_ones_again(portrait: Portrait, networks: Networks) -> None:
    for init in ("rig", "noise"):
        frames = drawn(portrait, networks, init=init)
        assert frames.shape == (20, SIDE, SIDE, 3) and frames.dtype == np.uint8
        assert np.array_equal(frames, drawn(portrait, networks, init=init))
        other = drawn(portrait, networks, init=init, sampling=replace(SHORT, seed=1))
        assert not np.array_equal(frames, other)


def test_landmarks_are_what_moves(portrait: Portrait, networks: Networks) -> None:
    still = drawn(portrait, networks, motion(jaw=0.0), init="noise")
    assert not np.array_equal(still, drawn(portrait, networks, init="noise"))


def test_prompts_change_the_picture_where_text_counts(portrait: Portrait, networks: Networks) -> None:
    said = {text: drawn(portrait, networks, prompt=text) for text in ("a woman", "0s a woman; 0.4s a man")}
    first, second = said.values()
    assert not np.array_equal(first[-1], second[-1])
    mute = replace(SHORT, guidance=1.0, weights={"text": 0.0})
    a, b = (drawn(portrait, networks, prompt=text, sampling=mute) for text in ("a woman", "a man"))
    assert np.array_equal(a, b)


def test_no_strength_keeps_the_rigs_frames(portrait: Portrait, networks: Networks) -> None:
    render = DiffusionRender(portrait, Drawing("a person", sampling=replace(SHORT, strength=0.0)), networks)
    frames = list(render([motion(3)]))
    whole = motion(3)
    rig = [render.rig.draw(c, h) for c, h in zip(whole.coefficients, whole.head, strict=True)]
    import cv2

    small = [cv2.resize(f, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for f in rig]
    latents = torch.cat(list(networks.diffusion.encode(small)))
    with torch.inference_mode():
        vae: Any = networks.diffusion.vae
        copies = vae.decode(latents / vae.config.scaling_factor).sample
    expected = ((copies.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    assert np.abs(np.stack(frames).astype(int) - expected).max() <= 1


def test_a_job_that_broke_off_goes_on_where_it_was(portrait: Portrait, networks: Networks, tmp_path: Path) -> None:
    drawing = Drawing("a person", sampling=SHORT)
    whole = list(DiffusionRender(portrait, drawing, networks)(chunks(motion())))

    def stop(done: int, steps: int) -> None:
        if done == 2 and not told:
            told.append(done)
            raise KeyboardInterrupt

    told: list[int] = []
    render = DiffusionRender(portrait, drawing, networks)
    work = tmp_path / "latents"
    with pytest.raises(KeyboardInterrupt):
        list(render(chunks(motion()), work=work, job="a", progress=stop))
    steps: list[int] = []
    again = list(render(chunks(motion()), work=work, job="a", progress=lambda done, _: steps.append(done)))
    assert steps == [3] and all(np.array_equal(a, b) for a, b in zip(whole, again, strict=True))
    later = list(render(chunks(motion()), 13, work, "a"))
    assert all(np.array_equal(a, b) for a, b in zip(whole[13:], later, strict=True))
    steps.clear()
    list(render(chunks(motion()), work=work, job="b", progress=lambda done, _: steps.append(done)))
    assert steps == [1, 2, 3]


def test_heads_are_cut_to_a_square(portrait: Portrait) -> None:
    head = head_of(portrait)
    height, width = head.image.shape[:2]
    assert height == width <= 300
    x, y, w, h = head.face.box
    assert x > 0 and y > 0 and x + w < width and y + h < height
    found = Portrait.from_array(head.image)
    assert np.linalg.norm(found.landmarks - head.landmarks, axis=1).mean() < 0.02 * width
    assert np.allclose(found.pose.origin_px, head.pose.origin_px, atol=0.02 * width)
    same = head_of(head)
    assert same.image.shape == head.image.shape and np.array_equal(same.landmarks, head.landmarks)


def test_a_face_too_large_for_a_square_is_an_error(astronaut: np.ndarray) -> None:
    tall = Portrait.from_array(np.ascontiguousarray(astronaut[40:200, 175:275]))
    assert tall.face.box[3] > 90
    with pytest.raises(PortraitError, match="does not fit into a square of the picture"):
        head_of(replace(tall, image=tall.image[:, :60]))


def test_motion_waits_on_the_disk(tmp_path: Path) -> None:
    whole = motion()
    assert spool(chunks(whole), tmp_path / "m") == 20
    rows = list(spooled(tmp_path / "m"))
    assert np.array_equal(np.stack([c for c, _ in rows]), whole.coefficients)
    assert np.array_equal(np.stack([h for _, h in rows]), whole.head)


def test_no_motion_is_no_frame(portrait: Portrait, networks: Networks) -> None:
    assert not list(DiffusionRender(portrait, Drawing("a person", sampling=SHORT), networks)([]))


def test_a_contour_of_another_picture_is_kept_in_place_of_the_own(
    portrait: Portrait, networks: Networks, astronaut: np.ndarray, tmp_path: Path
) -> None:
    from PIL import Image

    other = tmp_path / "other.png"
    Image.fromarray(astronaut[:400, 60:440, ::-1][:, ::-1]).save(other)  # of another size and colour
    own = DiffusionRender(portrait, Drawing("a person", sampling=SHORT), networks)
    given = DiffusionRender(portrait, Drawing("a person", sampling=SHORT, contour=other), networks)
    assert own._contour.shape == given._contour.shape == (3, SIDE, SIDE)
    assert not torch.equal(own._contour, given._contour)
    with pytest.raises(PortraitError, match="no picture at"):
        DiffusionRender(portrait, Drawing("a person", contour=tmp_path / "none.png"), networks)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"prompt": "very " * 20 + "long indeed"}, OptionError, "too long: 'long indeed' would not be read"),
        ({"prompt": "4s a man; 2s a woman"}, StyleError, "times rising from 0"),
        ({"init": "paint"}, OptionError, "init is 'paint'; expected rig or noise"),
    ],
)
def test_what_cannot_be_drawn_is_said(
    portrait: Portrait, networks: Networks, options: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        DiffusionRender(portrait, Drawing(**options), networks)


def test_animate_generates_and_resumes(portrait: Portrait, networks: Networks, tmp_path: Path) -> None:
    speech = Speech.from_array(0.1 * np.sin(np.arange(16000) / 20), 16000)
    drawing = Drawing("a person", sampling=SHORT)

    def made() -> GeneratedAnimation:
        video = magictalk.animate(portrait, speech, motion=motion(25), drawing=drawing, networks=networks)
        assert isinstance(video, GeneratedAnimation)
        return video

    whole = made()
    assert whole.frame_size == (SIDE, SIDE) and whole.frame_count == 25
    path = whole.save(tmp_path / "a.mp4")
    assert len(list(read_frames(path))) == 25

    def stop(done: int, steps: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    broken = made()
    broken.denoising = stop
    with pytest.raises(KeyboardInterrupt):
        broken.save(tmp_path / "b.mp4")
    assert broken.resume_hint is not None and "--resume" in broken.resume_hint
    again, seen = made(), []
    again.denoising = lambda done, steps: seen.append(done)
    again.save(tmp_path / "b.mp4", resume=True)
    assert seen == [2, 3]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "b.mp4"]
    for a, b in zip(read_frames(path), read_frames(tmp_path / "b.mp4"), strict=True):
        assert np.array_equal(a, b)
    with pytest.raises(OptionError, match="frames of one size"):
        magictalk.animate(portrait, speech, motion=motion(25), drawing=drawing, networks=networks, size=64)
