from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import ControlNetModel, MotionAdapter, UNet2DConditionModel, UNetMotionModel
from diffusers.loaders.unet import UNet2DConditionLoadersMixin
from safetensors.torch import save_file
from torch import Tensor, nn

from magictalk.errors import WeightsError
from magictalk.render.diffusion.animate import ControlPair
from magictalk.render.diffusion.layouts import fill, identity_slots, motion_slots, read, unet_slots
from magictalk.render.diffusion.reference import ReferenceNet

SD15 = {"cross_attention_dim": 768, "attention_head_dim": 8}
"""What Stable Diffusion 1.5's published configurations say that is not diffusers' default."""


def shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


@pytest.fixture(scope="module")
def full() -> ReferenceNet:
    """The full tier, without memory for its weights."""
    with torch.device("meta"):
        return ReferenceNet()


def filled(full: ReferenceNet, slots: dict[str, str]) -> dict[str, tuple[int, ...]]:
    own = shapes(full)
    return {key: own[name] for key, name in slots.items()}


class TestTheFullTierHasThePublishedLayouts:
    def test_stable_diffusion(self, full: ReferenceNet) -> None:
        with torch.device("meta"):
            published = UNet2DConditionModel(**SD15)
        assert filled(full, unet_slots(full)) == shapes(published)
        assert sum(p.numel() for p in published.parameters()) == 859_520_964  # as its model card's file has it

    def test_animate_diff(self, full: ReferenceNet) -> None:
        with torch.device("meta"):
            published = MotionAdapter(use_motion_mid_block=False, motion_max_seq_length=32)
        assert filled(full, motion_slots(full)) == shapes(published)

    def test_ip_adapter_face_id(self, full: ReferenceNet) -> None:
        """Against the shapes that h94/IP-Adapter-FaceID states: 16 layers, 512 numbers a face, 4 tokens."""
        widths = [320] * 2 + [640] * 2 + [1280] * 2 + [1280] * 3 + [640] * 3 + [320] * 3 + [1280]
        expected: dict[str, tuple[int, ...]] = {
            f"ip_adapter.{2 * i + 1}.to_{part}_ip.weight": (width, 768)
            for i, width in enumerate(widths)
            for part in "kv"
        }
        expected |= {
            "image_proj.proj.0.weight": (1024, 512), "image_proj.proj.0.bias": (1024,),
            "image_proj.proj.2.weight": (3072, 1024), "image_proj.proj.2.bias": (3072,),
            "image_proj.norm.weight": (768,), "image_proj.norm.bias": (768,),
        }  # fmt: skip
        assert filled(full, identity_slots(full)) == expected

    def test_together_they_fill_every_weight(self, full: ReferenceNet) -> None:
        slots = [*unet_slots(full).values(), *motion_slots(full).values(), *identity_slots(full).values()]
        assert len(slots) == len(set(slots)) and set(slots) == set(full.state_dict())

    def test_control_nets_are_diffusers_own(self) -> None:
        with torch.device("meta"):
            one = ControlNetModel(**SD15)
        assert sum(p.numel() for p in one.parameters()) == 361_279_120  # as control_v11p_sd15_canny's file has it
        assert ControlPair(one, one).contour is one


@pytest.fixture(scope="module")
def small() -> dict[str, Any]:
    return {"block_out_channels": (16, 32), "layers_per_block": 1, "cross_attention_dim": 12, "norm_num_groups": 8}


@pytest.fixture(scope="module")
def published(small: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small checkpoints in the public layouts, written by diffusers' own networks."""
    torch.manual_seed(5)
    folder = tmp_path_factory.mktemp("published")
    blocks = {
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    }
    unet = UNet2DConditionModel(**small, **blocks, attention_head_dim=2)
    adapter = MotionAdapter(
        block_out_channels=(16, 32), motion_layers_per_block=1, motion_num_attention_heads=2, motion_norm_num_groups=8,
        use_motion_mid_block=False, motion_max_seq_length=8,
    )  # fmt: skip
    for part in adapter.parameters():
        nn.init.normal_(part, 0, 0.2)  # an untrained adapter moves nothing
    names = [n for n in unet.attn_processors if n.endswith("attn2.processor")]
    widths = [16 if n.startswith(("down_blocks.0", "up_blocks.1")) else 32 for n in names]
    ip = {
        f"ip_adapter.{2 * i + 1}.to_{part}_ip.weight": 0.3 * torch.randn(width, 12)
        for i, width in enumerate(widths) for part in "kv"
    }  # fmt: skip
    ip |= {
        "image_proj.proj.0.weight": torch.randn(20, 10), "image_proj.proj.0.bias": torch.randn(20),
        "image_proj.proj.2.weight": torch.randn(24, 20), "image_proj.proj.2.bias": torch.randn(24),
        "image_proj.norm.weight": torch.randn(12), "image_proj.norm.bias": torch.randn(12),
    }  # fmt: skip
    for name, tensors in (("unet", unet.state_dict()), ("motion", adapter.state_dict()), ("identity", ip)):
        save_file({k: v.contiguous() for k, v in tensors.items()}, folder / f"{name}.safetensors")
    unet.save_config(folder / "unet")
    adapter.save_config(folder / "motion")
    return {name: folder / f"{name}.safetensors" for name in ("unet", "motion", "identity")}


@pytest.fixture
def loaded(tiny: dict[str, Any], published: dict[str, Path]) -> ReferenceNet:
    network = ReferenceNet(**tiny, identity_width=10, identity_tokens=2, frames=8, motion_heads=2).eval()
    for name, slots in (("unet", unet_slots), ("motion", motion_slots), ("identity", identity_slots)):
        fill(network, slots(network), read(published[name]), name)
    return network


def test_a_checkpoint_in_these_layouts_does_what_it_does_in_diffusers(
    loaded: ReferenceNet, published: dict[str, Path], given: dict[str, Tensor]
) -> None:
    unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(published["unet"].parent / "unet"))
    unet.load_state_dict(read(published["unet"]))
    adapter = MotionAdapter.from_config(MotionAdapter.load_config(published["motion"].parent / "motion"))
    adapter.load_state_dict(read(published["motion"]))
    theirs = UNetMotionModel.from_unet2d(unet, adapter).eval()
    assert isinstance(theirs, UNet2DConditionLoadersMixin)
    parts: dict[str, dict[str, Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for key, value in read(published["identity"]).items():
        part, _, name = key.partition(".")
        parts[part][name] = value
    theirs._load_ip_adapter_weights([parts], low_cpu_mem_usage=False)
    with torch.inference_mode():
        expected = theirs(
            given["latents"], 7, given["text"].repeat_interleave(4, 0),
            added_cond_kwargs={"image_embeds": [given["face"][:, None]]},
        ).sample  # fmt: skip
        made = loaded(given["latents"], 7, given["text"], given["face"])
    assert torch.allclose(made, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("conv_in.bias"), "sd.safetensors lacks conv_in.bias; is it"),
        (lambda t: t.update(odd=torch.zeros(1)), "has more than expected: odd; is it"),
        (lambda t: t.update({"conv_in.bias": torch.zeros(5)}), r"conv_in.bias \(5,\) in place of \(16,\)"),
        (lambda t: [t.pop(key) for key in list(t)[:9]], "lacks .*, .*, .* and 6 more; is it"),
    ],
)
def test_what_does_not_fit_is_named(
    loaded: ReferenceNet, published: dict[str, Path], change: Any, message: str
) -> None:
    tensors = read(published["unet"])
    before = loaded.state_dict()["unet.conv_out.bias"].clone()
    change(tensors)
    with pytest.raises(WeightsError, match=message):
        fill(loaded, unet_slots(loaded), tensors, "sd.safetensors")
    assert torch.equal(loaded.state_dict()["unet.conv_out.bias"], before)


def test_pickles_are_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "ip-adapter.bin")
    with pytest.raises(WeightsError, match=r"is a pickle.*weights_only=True.*ip-adapter\.safetensors") as refused:
        read(tmp_path / "ip-adapter.bin")
    import subprocess
    import sys

    command = str(refused.value).partition('python -c "')[2].rstrip('"')
    subprocess.run([sys.executable, "-c", command], cwd=tmp_path, check=True)
    assert torch.equal(read(tmp_path / "ip-adapter.safetensors")["a"], torch.zeros(1))


@pytest.mark.parametrize("content", [None, b"nonsense"])
def test_files_that_cannot_be_read_are_said(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "unet.safetensors"
    if content:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"cannot read .*unet\.safetensors"):
        read(path)


def test_two_control_nets_add_up(small: dict[str, Any], given: dict[str, Tensor], control: dict[str, Tensor]) -> None:
    torch.manual_seed(0)
    nets = [
        ControlNetModel(
            **small, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), attention_head_dim=2,
            conditioning_embedding_out_channels=(4, 8),
        ).eval()
        for _ in range(2)
    ]  # fmt: skip
    for net in nets:
        for part in net.parameters():
            nn.init.normal_(part, 0, 0.1)
    pair = ControlPair(*nets)
    with torch.inference_mode():
        both, one, other = (
            pair(given["latents"], 7, given["text"], **control, weights=w)[1]
            for w in ({"contour": 0.5}, {"contour": 0.0}, {"landmarks": 0.0})
        )
    assert torch.allclose(both, one + 0.5 * other, atol=1e-5)
    assert one.abs().max() > 0 and other.abs().max() > 0
