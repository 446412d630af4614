"""Tiers: the full one from checkpoints in their published layouts, made small; the nano one where it ships."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, ControlNetModel
from safetensors.torch import save_file

from magictalk import Motion, Portrait, weights
from magictalk.errors import WeightsError
from magictalk.face.recognition import FaceRecogniser
from magictalk.render.diffusion import tiers
from magictalk.render.diffusion.denoising import Sampling
from magictalk.render.diffusion.layouts import identity_slots, motion_slots, unet_slots
from magictalk.render.diffusion.portraits import PortraitDrawing, PortraitRender
from magictalk.render.diffusion.reference import ReferenceNet
from magictalk.render.diffusion.render import DiffusionRender, Drawing, Networks

transformers = pytest.importorskip("transformers")
SIDE = 16
LAYOUT: dict[str, Any] = {
    "channels": (16, 32), "layers": 1, "heads": 2, "width": 12, "groups": 8, "identity_width": 10, "frames": 8,
    "motion_heads": 2,
}  # fmt: skip


class Recogniser(torch.nn.Module):
    """Ten numbers of a face."""

    def forward(self, face: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(face, (2, 5)).mean(1).flatten(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every checkpoint as it is published, some ten thousand weights each."""
    root = tmp_path_factory.mktemp("full")
    torch.manual_seed(0)
    network = ReferenceNet(**LAYOUT)
    own = network.state_dict()
    for part, slots in (
        ("base/unet/diffusion_pytorch_model", unet_slots(network)),
        ("motion/diffusion_pytorch_model", motion_slots(network)),
        ("identity/ip-adapter-faceid_sd15", identity_slots(network)),
    ):
        path = root / f"{part}.safetensors"
        path.parent.mkdir(parents=True)
        save_file({key: own[name].clone() for key, name in slots.items()}, path)
        (path.parent / "config.json").write_text("{}")
    torch.jit.script(Recogniser()).save(root / "identity/arcface.pt")
    vae: Any = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4, latent_channels=4,
    )  # fmt: skip
    vae.save_pretrained(root / "vae")
    for part in ("landmarks/diffusion_sd15", "contour"):
        control: Any = ControlNetModel(
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), block_out_channels=(16, 32), layers_per_block=1,
            cross_attention_dim=12, attention_head_dim=2, norm_num_groups=8,
            conditioning_embedding_out_channels=(4, 8),
        )  # fmt: skip
        for layer in (control.controlnet_mid_block, *control.controlnet_down_blocks):
            torch.nn.init.normal_(layer.weight, std=0.1)
        control.save_pretrained(root / part)
    text = transformers.CLIPTextConfig(
        vocab_size=514, hidden_size=12, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=20, projection_dim=12, bos_token_id=512, eos_token_id=513,
    )  # fmt: skip
    transformers.CLIPTextModel(text).save_pretrained(root / "base/text_encoder")
    from tokenizers import pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (root / "base/tokenizer").mkdir()
    import json

    (root / "base/tokenizer/vocab.json").write_text(json.dumps({name: i for i, name in enumerate(names)}))
    (root / "base/tokenizer/merges.txt").write_text("#version: 0.2\n")
    (root / "base/tokenizer/tokenizer_config.json").write_text(
        json.dumps({"model_max_length": 20, "tokenizer_class": "CLIPTokenizer"})
    )
    (root / "base/tokenizer/special_tokens_map.json").write_text("{}")
    return root


@pytest.fixture(scope="module")
def networks(folder: Path) -> Networks:
    return tiers.full(folder, device="cpu", side=SIDE, layout=LAYOUT)


def test_published_checkpoints_make_frames(networks: Networks, astronaut: np.ndarray) -> None:
    portrait = Portrait.from_array(np.ascontiguousarray(astronaut[:300, 80:400]))
    made = {}
    for who, weight in (("own", 1.0), ("nobody", 0.0)):
        drawing = Drawing("a man", "noise", Sampling(steps=2, frames=8, overlap=4, weights={"identity": weight}))
        made[who] = np.stack(list(DiffusionRender(portrait, drawing, networks)([Motion.zeros(10)])))
        assert made[who].shape == (10, SIDE, SIDE, 3)
    assert not np.array_equal(made["own"], made["nobody"])
    assert np.isclose(float(networks.embed(portrait.image, portrait.landmarks).norm()), 1)


def test_published_checkpoints_make_frames_one_by_one(folder: Path, astronaut: np.ndarray) -> None:
    """PortraitTalk's way; without its own AnimateNet nothing looks at the frame before."""
    (folder / "motion").rename(folder / "motion-away")
    try:
        networks = tiers.full(folder, motion=False, device="cpu", side=2 * SIDE, layout=LAYOUT)
    finally:
        (folder / "motion-away").rename(folder / "motion")
    portrait = Portrait.from_array(np.ascontiguousarray(astronaut[:300, 80:400]))
    drawing = PortraitDrawing("a man", "noise", Sampling(steps=2))
    frames = list(PortraitRender(portrait, drawing, networks)([Motion.zeros(2)]))
    assert [frame.shape for frame in frames] == [(2 * SIDE, 2 * SIDE, 3)] * 2
    assert np.array_equal(*frames)  # the same was asked for, by the same noise


def test_identity_can_be_left_out_if_it_counts_nothing(folder: Path, astronaut: np.ndarray) -> None:
    networks = tiers.full(folder, identity=False, device="cpu", side=SIDE, layout=LAYOUT)
    portrait = Portrait.from_array(np.ascontiguousarray(astronaut[:300, 80:400]))
    with pytest.raises(WeightsError, match="use --identity-weight 0"):
        DiffusionRender(portrait, Drawing("a man"), networks)
    DiffusionRender(portrait, Drawing("a man", sampling=Sampling(weights={"identity": 0.0})), networks)


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("base/unet/config.json", r"no base/unet/config.json in .*; fetch it: magictalk weights pull magic-talk"),
        ("identity/ip-adapter-faceid_sd15.safetensors", "put there identity: ip-adapter-faceid_sd15.bin"),
        ("identity/arcface.pt", r"cannot load .*arcface.pt; put there identity"),
    ],
)
def test_what_is_missing_is_named(folder: Path, gone: str, message: str) -> None:
    held = (folder / gone).read_bytes()
    (folder / gone).unlink()
    try:
        with pytest.raises(WeightsError, match=message):
            tiers.full(folder, device="cpu", layout=LAYOUT)
    finally:
        (folder / gone).write_bytes(held)


def test_checkpoints_of_another_size_are_named(folder: Path) -> None:
    with pytest.raises(WeightsError, match=r"has other shapes: conv_in.weight .* in place of"):
        tiers.full(folder, device="cpu", layout={**LAYOUT, "channels": (24, 48)})


def test_operations_are_counted_without_doing_them(networks: Networks) -> None:
    one = tiers.operations(networks, 8, Sampling(steps=4, guidance=1, frames=8, overlap=4))
    assert one > 1e6
    assert tiers.operations(networks, 8, Sampling(steps=4, guidance=2, frames=8, overlap=4)) == pytest.approx(2 * one)
    assert tiers.operations(networks, 16, Sampling(steps=4, guidance=1, frames=8, overlap=4)) == pytest.approx(3 * one)
    assert 0 < tiers.hours(networks, 8, Sampling(steps=4, frames=8, overlap=4)) < 1
    assert networks.diffusion.device.type == "cpu"


@pytest.mark.parametrize(("names", "load"), [(tiers.SHIPPED, tiers.nano), (tiers.PORTRAIT, tiers.nano_portrait)])
def test_what_does_not_ship_yet_is_said(names: Any, load: Any) -> None:
    if {*names, *tiers.SHIPPED} <= set(weights.names()):
        pytest.skip("all of it ships")
    with pytest.raises(WeightsError, match=r"is not in the package yet; train it \(recipes/"):
        load()


def test_dlibs_people_are_told_apart_as_dlib_does(astronaut: np.ndarray) -> None:
    """By a distance of 0.6 between embeddings of the length that they have."""
    pytest.importorskip("dlib")
    portrait = Portrait.from_array(astronaut)
    own = FaceRecogniser()(portrait.image, portrait.landmarks)
    length = float(np.linalg.norm(own))
    turn = np.arccos(tiers.DLIB_SAME)
    across = np.roll(own, 1) - own * (np.roll(own, 1) @ own) / length**2
    other = np.cos(turn) * own + np.sin(turn) * across * length / np.linalg.norm(across)
    assert np.linalg.norm(other - own) == pytest.approx(0.6, abs=0.03)


def test_the_embedded_tier_loads(astronaut: np.ndarray) -> None:
    if "magic-talk-reference" not in weights.names():
        pytest.skip("the nano tier's weights are not in the package")
    pytest.importorskip("dlib")
    networks = tiers.nano()
    assert networks.side == 128 and networks.latent_shape() == (4, 32, 32)
    total = sum(
        p.numel() for n in (networks.diffusion.vae, networks.diffusion.reference, networks.diffusion.animate)
        for p in n.parameters()
    )  # fmt: skip
    assert 15e6 < total < 30e6
