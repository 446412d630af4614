"""PortraitTalk's render end to end, with networks of some ten thousand weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image

import magictalk
from magictalk import Motion, Portrait, Speech
from magictalk.animation import GeneratedAnimation
from magictalk.errors import MagicTalkWarning, OptionError, PortraitError
from magictalk.motion import ARKIT
from magictalk.render.diffusion.animate import AnimateNet
from magictalk.render.diffusion.denoising import CONDITIONS, Sampling, VideoDiffusion
from magictalk.render.diffusion.identity import Blend
from magictalk.render.diffusion.portraits import PortraitDrawing, PortraitRender
from magictalk.render.diffusion.reference import ReferenceNet
from magictalk.render.diffusion.render import Networks
from magictalk.render.diffusion.schedule import animatediff_scheduler
from magictalk.video import read_frames

SIDE = 32
SHORT = Sampling(steps=2, guidance=1.5)


class Reader:
    """Reads ten words."""

    def __call__(self, texts: Sequence[str]) -> torch.Tensor:
        seeds = [sum(map(ord, text)) for text in texts]
        return torch.stack([torch.randn(5, 12, generator=torch.Generator().manual_seed(s)) for s in seeds])

    def cut(self, text: str) -> str:
        return ""


@pytest.fixture(scope="module")
def portrait(astronaut: np.ndarray) -> Portrait:
    return Portrait.from_array(np.ascontiguousarray(astronaut[:300, 80:400]))


@pytest.fixture(scope="module")
def files(astronaut: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same person again; in her negative, who counts as somebody else here; and nobody."""
    folder = tmp_path_factory.mktemp("portraits")
    own = np.ascontiguousarray(astronaut[:310, 70:400])
    Image.fromarray(own).save(folder / "own.png")
    other = own.copy()
    other[..., 2] //= 8
    Image.fromarray(other).save(folder / "other.png")
    Image.fromarray(np.full((200, 200, 3), 90, np.uint8)).save(folder / "nobody.png")
    return folder


def embed(picture: np.ndarray, mesh: np.ndarray) -> torch.Tensor:
    """Tells pictures without blue from others."""
    x, y = mesh[4, :2].astype(int)
    blue = picture[y - 5 : y + 5, x - 5 : x + 5].mean((0, 1))
    return torch.tensor([3.0 * float(blue[2] > 60), 3.0 * float(blue[2] <= 60), *[0.1] * 8])


@pytest.fixture(scope="module")
def networks(tiny: dict[str, Any]) -> Networks:
    torch.manual_seed(4)
    vae: Any = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4, latent_channels=4,
    )  # fmt: skip
    reference = ReferenceNet(**tiny, identity_width=10, identity_tokens=2, motion=False)
    animate = AnimateNet(**tiny, control_channels=(4, 8), previous=True)
    for layer in (animate.net.controlnet_mid_block, *animate.net.controlnet_down_blocks):
        torch.nn.init.normal_(layer.weight, std=0.3)  # as after some training
    return Networks(VideoDiffusion(vae, reference, animate, animatediff_scheduler()), Reader(), embed, SIDE)


def motion(frames: int = 5) -> Motion:
    made = Motion.zeros(frames)
    made.coefficients[:, ARKIT.index("jawOpen")] = 0.6 * (np.arange(frames) % 4) / 4
    return made


def chunks(whole: Motion) -> Iterator[Motion]:
    yield from (whole[:2], whole[2:])


def drawn(
    portrait: Portrait, networks: Networks, start: int = 0, work: Path | None = None, **options: Any
) -> np.ndarray:
    drawing = PortraitDrawing(**({"prompt": "a person", "sampling": SHORT} | options))
    return np.stack(list(PortraitRender(portrait, drawing, networks)(chunks(motion()), start, work)))


def test_motion_becomes_frames(portrait: Portrait, networks: Networks) -> None:
    for init in ("rig", "noise"):
        frames = drawn(portrait, networks, init=init)
        assert frames.shape == (5, SIDE, SIDE, 3) and frames.dtype == np.uint8
        assert np.array_equal(frames, drawn(portrait, networks, init=init))
        assert np.array_equal(frames[3:], drawn(portrait, networks, start=3, init=init))


def test_meshes_lie_on_the_rigs_frames(portrait: Portrait, networks: Networks) -> None:
    """At rest with the portrait's own face it is the portrait's mesh, in depth too."""
    render = PortraitRender(portrait, PortraitDrawing("a person", sampling=SHORT), networks)
    still = Motion.zeros(1)
    still.coefficients[:] = render.portrait.coefficients
    (step,) = render.steps([still])
    own = render.portrait.landmarks * np.float32(SIDE / render.portrait.image.shape[0])
    assert np.abs(step.mesh[:, :2] - own[:, :2]).max() < 1
    assert np.polyfit(own[:, 2], step.mesh[:, 2], 1)[0] == pytest.approx(1, abs=0.2)


def test_frames_come_as_soon_as_they_are_drawn(portrait: Portrait, networks: Networks) -> None:
    """Motion is read as it is needed, so a live voice can lead."""
    read = []

    def endless() -> Iterator[Motion]:
        while True:
            read.append(len(read))
            yield motion(1)

    frames = PortraitRender(portrait, PortraitDrawing("a person", sampling=SHORT), networks)(endless())
    for count in (1, 2, 3):
        next(frames)
        assert len(read) == count


def test_a_second_picture_of_the_person_is_another_token(portrait: Portrait, networks: Networks, files: Path) -> None:
    render = PortraitRender(
        portrait, PortraitDrawing("a person", sampling=SHORT, references=(files / "own.png",)), networks
    )
    assert render._face.shape == (2, 10) and render._other is None


def test_two_people_blend(portrait: Portrait, networks: Networks, files: Path) -> None:
    other = files / "other.png"
    alone = drawn(portrait, networks, init="noise")
    faces = []
    for text in ("0", "0.3", "1", "0s 0; 0.16s 1"):
        blend = Blend.parse(text)
        drawing = PortraitDrawing("a person", "noise", SHORT, references=(other,), blend=blend)
        render = PortraitRender(portrait, drawing, networks)
        steps = list(render.steps(chunks(motion())))
        faces.append(torch.stack([step.face for step in steps]))
        frames = np.stack(list(render(chunks(motion()))))
        assert np.array_equal(frames, alone) is (text == "0")
    assert torch.equal(faces[0], faces[0][:1].expand_as(faces[0])) and not torch.equal(faces[0], faces[1])
    assert torch.equal(faces[3][0], faces[0][0]) and torch.allclose(faces[3][-1], faces[2][0], atol=1e-5)


def test_a_blend_goes_all_the_way(portrait: Portrait, networks: Networks, files: Path) -> None:
    """In mesh, rig's frames, anchor and what stands before the first frame; half of it lies between."""
    own, half, whole = (
        PortraitRender(
            portrait,
            PortraitDrawing(
                None, "rig", SHORT, references=(files / "other.png",), blend=Blend.parse(share), anchor=0.5
            ),
            networks,
        )
        for share in ("0", "0.5", "1")
    )
    other = own._other
    assert other is not None
    start, middle, end = (list(each.steps([motion(3)])) for each in (own, half, whole))
    alone = list(own._alone([motion(3)])), list(other._alone([motion(3)]))
    for t in range(3):
        for step, expected in ((start[t], alone[0][t]), (end[t], alone[1][t])):
            assert np.array_equal(step.mesh, expected.mesh) and np.array_equal(step.beginning, expected.beginning)
        for name in ("mesh", "beginning", "anchor"):
            a, b, c = (np.asarray(getattr(each[t], name), float) for each in (start, middle, end))
            assert np.abs(b - (a + c) / 2).max() <= 1 and not np.array_equal(a, c)
    assert np.array_equal(end[0].anchor, other._shown) and np.array_equal(start[0].anchor, own._shown)
    texts = [each._text(0, 2) for each in (own, half, whole)]
    assert torch.allclose(texts[1], (texts[0] + texts[2]) / 2)


def test_other_peoples_pictures_are_warned_of(portrait: Portrait, networks: Networks, files: Path) -> None:
    with pytest.warns(MagicTalkWarning, match=r"do not look like one person \(likeness 0\.01, expected 0\.91\)"):
        drawn(portrait, networks, references=(files / "other.png",))


def test_a_blend_of_people_who_look_alike_is_warned_of(portrait: Portrait, networks: Networks, files: Path) -> None:
    with pytest.warns(MagicTalkWarning, match=r"all pictures look like one person \(likeness 1\.00 or more, expected"):
        drawing = PortraitDrawing("a person", "noise", SHORT, references=(files / "own.png",), blend=Blend.parse("1"))
        render = PortraitRender(portrait, drawing, networks)
    assert render._other is not None and len(render._face) == len(render._other._face) == 1


def test_bad_pictures_and_weights(portrait: Portrait, networks: Networks, files: Path) -> None:
    with pytest.raises(OptionError, match=r"anchor is 1\.5; expected 0 to 1"):
        PortraitDrawing(anchor=1.5)
    with pytest.raises(OptionError, match="blend mixes two people, and there is one picture"):
        PortraitDrawing(blend=Blend.parse("0.3"))
    with pytest.raises(PortraitError, match=r"nobody\.png"):
        drawn(portrait, networks, references=(files / "nobody.png",))
    with pytest.raises(OptionError, match="all weights are 0"):
        PortraitDrawing(sampling=Sampling(weights=dict.fromkeys(CONDITIONS, 0.0)))


def test_without_identity_no_face_is_looked_at(portrait: Portrait, networks: Networks) -> None:
    def never(picture: np.ndarray, mesh: np.ndarray) -> torch.Tensor:
        raise AssertionError

    blind = Networks(networks.diffusion, networks.text, never, SIDE)
    frames = drawn(portrait, blind, sampling=Sampling(steps=2, weights={"identity": 0.0}))
    assert len(frames) == 5


def test_the_whole_way_and_going_on(portrait: Portrait, networks: Networks, tmp_path: Path) -> None:
    speech = Speech.from_array(0.1 * np.sin(np.arange(4000) / 20), 16000)
    drawing = PortraitDrawing("a person", sampling=SHORT)
    made = magictalk.animate(portrait, speech, drive="variational", drawing=drawing, networks=networks)
    assert isinstance(made, GeneratedAnimation)
    saved = made.save(tmp_path / "out.mp4")
    assert len(list(read_frames(saved))) == made.frame_count
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]
    whole = drawn(portrait, networks, work=tmp_path / "kept")
    assert len(list((tmp_path / "kept").glob("frame-*.npy"))) == 5
    for path in (tmp_path / "kept").glob("frame-*[34].npy"):
        path.unlink()
    assert np.array_equal(whole, drawn(portrait, networks, work=tmp_path / "kept"))
