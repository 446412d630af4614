"""Networks of the right kinds, tiny and random, in a folder of weights as the figures expect it."""

import json

import pytest
import torch
from torch import Tensor, nn


class Inception(nn.Module):
    def __init__(self, size: int):
        super().__init__()
        self.project = nn.Linear(3, size)

    def forward(self, x: Tensor, return_features: bool = False) -> Tensor:
        assert return_features
        return self.project(x.mean(dim=[2, 3]))


class I3D(nn.Module):
    def __init__(self):
        super().__init__()
        self.project = nn.Linear(6, 400)

    def forward(self, x: Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False) -> Tensor:
        assert rescale and resize and return_features and x.shape[2] == 16
        return self.project(torch.cat([x.mean(dim=[2, 3, 4]), x.std(dim=[2, 3, 4])], 1))


class Lpips(nn.Module):
    """The squared distance of half-sized pictures, one number a pair, in LPIPS' shape."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        a, b = nn.functional.avg_pool2d(a, 2), nn.functional.avg_pool2d(b, 2)
        return ((a - b) ** 2).mean(dim=[1, 2, 3], keepdim=True)


class Pooled(nn.Module):
    def __init__(self, size: int):
        super().__init__()
        self.project = nn.Linear(3, size)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(x.mean(dim=[2, 3]))


class Brightest(nn.Module):
    """Logits: the channels' means."""

    def forward(self, x: Tensor) -> Tensor:
        return 50 * x.mean(dim=[2, 3])


@pytest.fixture(autouse=True)
def hub_cache(tmp_path_factory, monkeypatch):
    """An empty cache of the hub, so that what this machine happens to hold plays no part."""
    folder = tmp_path_factory.mktemp("hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A folder with every network of ``magictalk.metrics.networks``."""
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer, Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("weights")
    for name, network in (
        ("inception", Inception(2048)),
        ("i3d", I3D()),
        ("lpips", Lpips()),
        ("arcface", Pooled(7)),
        ("emotion", Brightest()),
    ):
        (root / name).mkdir()
        torch.jit.script(network.eval()).save(root / name / f"{name}.pt")
    (root / "emotion" / "labels.json").write_text('["angry", "happy", "sad"]')

    tiny = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2)
    vision = dict(tiny, image_size=32, patch_size=8)
    text = dict(tiny, vocab_size=8, max_position_embeddings=8, bos_token_id=6, eos_token_id=7)
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)).save_pretrained(root / "clip")
    words = ["a", "b", "a</w>", "b</w>", "ab</w>", "c</w>", "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: i for i, word in enumerate(words)}
    CLIPTokenizer(vocab=vocabulary, merges=[("a", "b</w>")]).save_pretrained(root / "clip")
    Dinov2Model(Dinov2Config(**dict(vision, mlp_ratio=1))).save_pretrained(root / "dino")
    sizes = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    for name, kind in (("clip", "CLIPImageProcessor"), ("dino", "BitImageProcessor")):
        processor = {"image_processor_type": kind, "do_resize": True, "do_center_crop": True, **sizes}
        (root / name / "preprocessor_config.json").write_text(json.dumps(processor))
    return root


@pytest.fixture(scope="session")
def pictures(astronaut):
    """Six frames ``[6, 96, 128, 3]`` that move, and six that differ from them a little."""
    import numpy as np

    rng = np.random.default_rng(0)
    frames = np.stack([astronaut[50 + i : 146 + i, 150 + 2 * i : 278 + 2 * i] for i in range(6)])
    return frames, np.clip(frames + rng.normal(0, 12, frames.shape), 0, 255).astype(np.uint8)
