"""Speed and memory of the full tier's diffusion, beside diffusers' own pipeline, in one run; weights are random.

    python benchmarks/diffusion_speed.py [--frames 16 64 256] [--steps 25] [--compile] [--json FILE]
    python benchmarks/diffusion_speed.py --tiny          # the same code, some thousand weights, on any processor

Both draw 512 x 512 at guidance 2 with two ControlNets and an identity adapter (speed does not depend on weights), in
bfloat16 on a GPU. Ours: segments of 16 frames that overlap by 8, latents on the disk. Theirs:
AnimateDiffControlNetPipeline, FreeNoise with the same window and stride, an IP-Adapter's layers. Frames are decoded.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AnimateDiffControlNetPipeline,
    AutoencoderKL,
    ControlNetModel,
    MotionAdapter,
    UNet2DConditionModel,
)
from table import Row, add_json_option, report, row

from magictalk.render.diffusion.animate import ControlPair
from magictalk.render.diffusion.denoising import Sampling, VideoDiffusion, Wanted
from magictalk.render.diffusion.fusion import FRAMES, OVERLAP, Latents
from magictalk.render.diffusion.layouts import identity_slots
from magictalk.render.diffusion.reference import ReferenceNet
from magictalk.render.diffusion.schedule import animatediff_scheduler

GUIDANCE = 2.0
TOKENS, FACE = 77, 512


def sizes_of(tiny: bool) -> dict[str, Any]:
    """Settings of both sides' networks: Stable Diffusion 1.5's, or a few thousand weights."""
    if not tiny:
        return {
            "side": 512, "width": 768, "reference": {},
            "unet": {"cross_attention_dim": 768, "attention_head_dim": 8},
            "motion": {"use_motion_mid_block": False},
            "control": {"cross_attention_dim": 768, "attention_head_dim": 8},
            "vae": {
                "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2,
                "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
            },
        }  # fmt: skip
    shared = {"block_out_channels": (16, 32), "layers_per_block": 1, "norm_num_groups": 8}
    return {
        "side": 64, "width": 12,
        "reference": {"channels": (16, 32), "layers": 1, "heads": 2, "width": 12, "groups": 8, "motion_heads": 2},
        "unet": {
            **shared, "cross_attention_dim": 12, "attention_head_dim": 2,
            "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        },
        "motion": {
            "block_out_channels": (16, 32), "motion_layers_per_block": 1, "motion_norm_num_groups": 8,
            "motion_num_attention_heads": 2, "use_motion_mid_block": False,
        },
        "control": {
            **shared, "cross_attention_dim": 12, "attention_head_dim": 2,
            "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
            "conditioning_embedding_out_channels": (4, 8, 8, 8),
        },
        "vae": {
            "block_out_channels": (8, 8, 8, 8), "norm_num_groups": 4, "layers_per_block": 1,
            "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
        },
    }  # fmt: skip


class Ours:
    """Windows of our own: segments batched, latents on the disk."""

    def __init__(self, sizes: dict[str, Any], device: torch.device, dtype: torch.dtype, batch: int, fast: bool) -> None:
        self.reference = ReferenceNet(**sizes["reference"])
        controls = [ControlNetModel(**sizes["control"]) for _ in range(2)]
        vae: Any = AutoencoderKL(latent_channels=4, **sizes["vae"])
        animate = ControlPair(*controls)
        for network in (self.reference, animate, vae):
            network.to(device, dtype, memory_format=torch.channels_last)
        if fast:
            self.reference.unet.compile()
            for control in controls:
                control.compile()
        self.video = VideoDiffusion(vae, self.reference, animate, animatediff_scheduler())
        self.sizes, self.batch = sizes, batch

    def draw(self, frames: int, steps: int) -> int:
        side, width = self.sizes["side"], self.sizes["width"]
        text, face = torch.randn(TOKENS, width), torch.randn(FACE)
        wanted = Wanted(
            frames, lambda a, b: text.expand(b - a, -1, -1), torch.randn(TOKENS, width), face,
            lambda a, b: torch.rand(3, b - a, side, side) * 2 - 1, torch.rand(3, side, side) * 2 - 1,
        )  # fmt: skip
        sampling = Sampling(steps=steps, guidance=GUIDANCE, batch=self.batch)
        with tempfile.TemporaryDirectory() as folder:
            store = Latents(Path(folder), (4, side // 8, side // 8), "speed")
            self.video.begin(store, wanted, sampling)
            self.video.denoise(store, wanted, sampling)
            return sum(1 for _ in self.video.decode(store, frames))


class Theirs:
    """diffusers' pipeline with FreeNoise."""

    def __init__(self, sizes: dict[str, Any], device: torch.device, dtype: torch.dtype) -> None:
        unet: Any = UNet2DConditionModel(**sizes["unet"])
        controls: list[Any] = [ControlNetModel(**sizes["control"]) for _ in range(2)]
        vae: Any = AutoencoderKL(latent_channels=4, **sizes["vae"])
        adapter: Any = MotionAdapter(motion_max_seq_length=32, **sizes["motion"])
        self.pipeline: Any = AnimateDiffControlNetPipeline(
            vae=vae, text_encoder=None, tokenizer=None, unet=unet, motion_adapter=adapter,  # type: ignore[arg-type]
            controlnet=controls, scheduler=animatediff_scheduler(),
        )  # fmt: skip
        network = ReferenceNet(**sizes["reference"])
        own = network.state_dict()
        adapters: dict[str, dict[str, torch.Tensor]] = {"image_proj": {}, "ip_adapter": {}}
        for key, name in identity_slots(network).items():
            kind, _, rest = key.partition(".")
            adapters[kind][rest] = own[name]
        self.pipeline.unet._load_ip_adapter_weights([adapters])
        self.pipeline.to(device, dtype)
        self.pipeline.enable_free_noise(context_length=FRAMES, context_stride=OVERLAP)
        self.pipeline.set_progress_bar_config(disable=True)
        self.sizes, self.device, self.dtype = sizes, device, dtype

    def draw(self, frames: int, steps: int) -> int:
        from PIL import Image

        side, width = self.sizes["side"], self.sizes["width"]
        pictures = [Image.new("RGB", (side, side)) for _ in range(frames)]
        tokens = torch.randn(2 * frames, TOKENS, width, device=self.device, dtype=self.dtype)
        self.pipeline._encode_prompt_free_noise = lambda **_: (tokens, None)  # text is read by CLIP, which is not timed
        face = torch.randn(2, 1, FACE, device=self.device, dtype=self.dtype)
        made = self.pipeline(
            num_frames=frames, height=side, width=side, num_inference_steps=steps, guidance_scale=GUIDANCE,
            prompt="", ip_adapter_image_embeds=[face],
            conditioning_frames=[pictures, pictures], output_type="np",
        )  # fmt: skip
        return len(made.frames[0])


def measured(name: str, draw: Callable[[int, int], int], frames: int, steps: int, device: torch.device) -> list[Row]:
    """Frames a second and peak memory of one run, after one of a step that warms up."""
    draw(min(frames, FRAMES), 1)
    gpu = device.type == "cuda"
    if gpu:
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
    start = time.perf_counter()
    assert draw(frames, steps) == frames
    if gpu:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    rows = [row(f"{name}, {frames} frames: speed", frames / seconds, "frames/s")]
    if gpu:
        rows.append(row(f"{name}, {frames} frames: peak memory", torch.cuda.max_memory_allocated() / 1e9, "GB"))
    return rows


def compared(
    makers: Mapping[str, Callable[[], Any]], frames: Sequence[int], steps: int, device: torch.device,
    aim: float | None = None,
) -> list[Row]:  # fmt: skip
    """Speed and memory of ``ours`` and ``diffusers``, one after the other, and how much faster ours is."""
    rows: list[Row] = []
    for name, make in makers.items():
        maker = make()
        for count in frames:
            rows += measured(name, maker.draw, count, steps, device)
        del maker
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
    speed = {r["figure"]: r["value"] for r in rows if r["unit"] == "frames/s"}
    for count in frames:
        ratio = speed[f"ours, {count} frames: speed"] / speed[f"diffusers, {count} frames: speed"]
        target = () if aim is None else (f">= {aim:g}", ratio >= aim)
        rows.append(row(f"{count} frames: ours over diffusers", ratio, "x", *target))
    return rows


def where(device: torch.device) -> str:
    """What it ran on."""
    return torch.cuda.get_device_name() if device.type == "cuda" else "CPU, tiny networks"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", nargs="+", type=int, default=[16, 64, 256])
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--batch", type=int, default=2, help="segments at once, ours")
    parser.add_argument("--compile", action="store_true", help="compile our networks")
    parser.add_argument("--tiny", action="store_true")
    add_json_option(parser)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and not options.tiny:
        parser.exit(2, "error: no GPU here; the full tier would take hours. --tiny runs the same code, small\n")
    dtype, sizes = torch.bfloat16 if device.type == "cuda" else torch.float32, sizes_of(options.tiny)
    torch.manual_seed(0)
    makers: dict[str, Callable[[], Any]] = {
        "ours": lambda: Ours(sizes, device, dtype, options.batch, options.compile),
        "diffusers": lambda: Theirs(sizes, device, dtype),
    }
    rows = compared(makers, options.frames, options.steps, device, aim=2)
    report(f"diffusion on {where(device)}", rows, options.json)


if __name__ == "__main__":
    main()
