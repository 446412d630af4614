"""What tests of training share: runs that do not know of one another, and made-up clips of faces."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL

from magictalk.face.pose import Pose, canonical
from magictalk.train.pictures import Clip


@pytest.fixture(autouse=True)
def _another_run() -> Iterator[None]:
    """Accelerate settles a process's precision once; here every test is a run of its own, on one core."""
    from accelerate.state import AcceleratorState

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    AcceleratorState._reset_state()


@pytest.fixture(scope="session")
def oval_clip() -> Callable[..., Clip]:
    """Makes clips of 32 pixels: an oval face of a colour of its own, moving sideways, not seen in the first frame."""

    def make(seed: int, split: str = "train", kind: str = "people", frames: int = 6) -> Clip:
        rng = np.random.default_rng(seed)
        colours = rng.integers(30, 226, (2, 3))
        y, x = np.mgrid[:32, :32]
        pictures, points = [], []
        for t in range(frames):
            inside = ((x - 15 - t % 3) / 8) ** 2 + ((y - 16) / 11) ** 2 < 1
            pictures.append(np.where(inside[..., None], colours[0], colours[1]).astype(np.uint8))
            points.append(Pose(np.zeros(3), np.array([15.0 + t % 3, 13.0]), 8.0).to_image(canonical()))
        seen = np.ones(frames, bool)
        seen[0] = False
        return Clip(
            str(seed), kind, split, np.stack(pictures), np.float32(np.stack(points)), seen,
            np.zeros((32, 32), np.uint8), rng.normal(size=128).astype(np.float32),
        )  # fmt: skip

    return make


@pytest.fixture(scope="session")
def reader() -> Callable[[Sequence[str]], torch.Tensor]:
    """Texts to tokens ``[n, 5, 12]`` that depend on them alone."""

    def read(texts: Sequence[str]) -> torch.Tensor:
        seeds = [sum(map(ord, text)) for text in texts]
        return torch.stack([torch.randn(5, 12, generator=torch.Generator().manual_seed(s)) for s in seeds])

    return read


@pytest.fixture(scope="session")
def nobody() -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """A recogniser that knows nobody."""
    return lambda picture, mesh: np.zeros(128, np.float32)


@pytest.fixture(scope="module")
def vae() -> AutoencoderKL:
    """Latents ``[4, 16, 16]`` of pictures of 32 pixels."""
    torch.manual_seed(0)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4, latent_channels=4, scaling_factor=2.0,
    ).eval()  # fmt: skip
