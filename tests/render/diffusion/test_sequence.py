"""Frame by frame: what a frame knows of others, and going on after a stop."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL

from magictalk.face.landmarks import FaceDetector
from magictalk.render.diffusion.animate import AnimateNet, as_control, edges_as_control
from magictalk.render.diffusion.denoising import Sampling, VideoDiffusion, Wanted
from magictalk.render.diffusion.reference import ReferenceNet
from magictalk.render.diffusion.schedule import animatediff_scheduler
from magictalk.render.diffusion.sequence import FrameByFrame, Frames, Step

SIDE = 64
FRAMES = 4


@pytest.fixture(scope="module")
def face(astronaut: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A small portrait and its mesh."""
    import cv2

    large = np.ascontiguousarray(astronaut[:300, 80:380])
    mesh = FaceDetector()(large)[0].landmarks * np.float32(SIDE / 300)
    return cv2.resize(large, (SIDE, SIDE), interpolation=cv2.INTER_AREA), mesh


@pytest.fixture(scope="module")
def diffusion(tiny: dict[str, Any]) -> VideoDiffusion:
    torch.manual_seed(0)
    vae: Any = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4, latent_channels=4,
    )  # fmt: skip
    reference = ReferenceNet(**tiny, identity_width=10, identity_tokens=2, motion=False)
    animate = AnimateNet(**tiny, control_channels=(4, 8), previous=True)
    for layer in (animate.net.controlnet_mid_block, *animate.net.controlnet_down_blocks):
        torch.nn.init.normal_(layer.weight, std=1.0)  # as after some training
    return VideoDiffusion(vae, reference, animate, animatediff_scheduler())


@pytest.fixture
def drawn(diffusion: VideoDiffusion, face: tuple[np.ndarray, np.ndarray]) -> Any:
    """Draws frames, given the portrait before them and perhaps changes of steps."""
    picture, mesh = face
    text = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(1))
    lines = torch.rand(3, 9, SIDE, SIDE, generator=torch.Generator().manual_seed(2)) * 2 - 1
    wanted = Wanted(
        9, lambda a, b: text[:1].expand(b - a, -1, -1), text[1], torch.zeros(10), lambda a, b: lines[:, a:b],
        torch.zeros(3, SIDE, SIDE),
    )  # fmt: skip

    def draw(
        before: np.ndarray = picture, frames: int = FRAMES, kept: Frames | None = None, changed: int | None = None,
        anchor: float = 0.0, **sampling: Any,
    ) -> list[np.ndarray]:  # fmt: skip
        def steps() -> Iterator[Step]:
            for t in range(frames):
                yield Step(mesh + np.float32(0.2 * t), torch.full((1, 10), 5.0 if t == changed else 1.0), None)

        how = Sampling(**({"steps": 2, "guidance": 1.5} | sampling))
        return list(FrameByFrame(diffusion, wanted, how, before, mesh, anchor)(steps(), kept))

    return draw


def test_frames_follow_the_steps_and_the_seed(drawn: Any) -> None:
    frames = drawn()
    assert [(f.shape, f.dtype.name) for f in frames] == [((SIDE, SIDE, 3), "uint8")] * FRAMES
    assert np.array_equal(frames, drawn()) and not np.array_equal(frames, drawn(seed=1))


def test_a_frame_knows_those_before_and_none_behind(drawn: Any, face: tuple[np.ndarray, np.ndarray]) -> None:
    frames = drawn()
    assert np.array_equal(frames[:2], drawn(frames=2))
    other = drawn(before=np.ascontiguousarray(face[0][::-1]))
    assert not np.array_equal(frames[0], other[0])  # there it is the portrait
    changed = drawn(changed=1)
    same = [np.array_equal(a, b) for a, b in zip(frames, changed, strict=True)]
    assert same[:2] == [True, False]


def test_an_anchor_shows_the_portrait_beside_the_frame_before(drawn: Any) -> None:
    plain, half, whole = (drawn(anchor=share) for share in (0.0, 0.5, 1.0))
    assert np.array_equal(plain[0], half[0]) and np.array_equal(plain[0], whole[0])  # there it is the portrait anyway
    assert not np.array_equal(plain[1], half[1]) and not np.array_equal(half[1], whole[1])


def test_a_job_that_broke_off_is_gone_on_with(drawn: Any, tmp_path: Path) -> None:
    whole = drawn()
    drawn(frames=2, kept=Frames(tmp_path, "job"))
    first = np.load(tmp_path / "frame-0000000.npy")
    assert np.array_equal(first, whole[0])
    np.save(tmp_path / "frame-0000000.npy", first // 2)  # it is taken from the disk, not drawn again
    again = drawn(kept=Frames(tmp_path, "job"))
    assert np.array_equal(again[0], first // 2) and np.array_equal(again[1:], whole[1:])
    assert np.array_equal(drawn(kept=Frames(tmp_path, "another job")), whole)


def test_another_render_can_be_the_beginning(diffusion: VideoDiffusion, face: tuple[np.ndarray, np.ndarray]) -> None:
    """Without any noise it is what the autoencoder makes of it."""
    picture, mesh = face
    text, lines = torch.zeros(2, 5, 12), torch.zeros(3, 9, SIDE, SIDE)
    wanted = Wanted(
        1, lambda a, b: text[:1], text[1], torch.zeros(10), lambda a, b: lines[:, a:b], torch.zeros(3, SIDE, SIDE)
    )
    draw = FrameByFrame(diffusion, wanted, Sampling(steps=4, strength=0.0), picture, mesh)
    (frame,) = draw(iter([Step(mesh, torch.zeros(1, 10), picture)]))
    with torch.inference_mode():
        latents = torch.cat(list(diffusion.encode([picture])))
    assert np.array_equal(frame, next(diffusion.pictures(latents)))


def test_control_pictures() -> None:
    picture = np.arange(12, dtype=np.uint8).reshape(2, 2, 3) * 23
    assert torch.allclose(as_control(picture)[1, 0], torch.tensor([1.0, 4.0]) * 23 / 127.5 - 1)
    edges = np.array([[True, False]])
    assert torch.equal(edges_as_control(edges), torch.tensor([1.0, -1.0]).expand(3, 1, 2))
