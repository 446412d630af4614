"""Speed of PortraitTalk's full size, a frame at a time, beside a plain diffusers loop, in one run; weights are random.

    python benchmarks/portrait_speed.py [--frames 16 64] [--steps 25] [--compile] [--json FILE]
    python benchmarks/portrait_speed.py --tiny           # the same code, some thousand weights, on any processor

Both draw 512 x 512 at guidance 2, one frame after another, in bfloat16 on a GPU. Ours: IdentityNet, AnimateNet with
three conditions, the outline of each frame's head for the next. Theirs: StableDiffusionControlNetPipeline with
ControlNets for landmarks and outline and an IP-Adapter's layers, called for every frame; it looks at no frame before.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, ControlNetModel, StableDiffusionControlNetPipeline, UNet2DConditionModel
from diffusion_speed import FACE, GUIDANCE, TOKENS, compared, sizes_of, where
from table import add_json_option, report

from magictalk.face.pose import Pose, canonical
from magictalk.render.diffusion.animate import AnimateNet
from magictalk.render.diffusion.denoising import Sampling, VideoDiffusion, Wanted
from magictalk.render.diffusion.layouts import identity_slots
from magictalk.render.diffusion.reference import ReferenceNet
from magictalk.render.diffusion.schedule import animatediff_scheduler
from magictalk.render.diffusion.sequence import FrameByFrame, Step


class Ours:
    """FrameByFrame, everything that belongs to it included."""

    def __init__(self, sizes: dict[str, Any], device: torch.device, dtype: torch.dtype, fast: bool) -> None:
        layout = {name: value for name, value in sizes["reference"].items() if name != "motion_heads"}
        reference = ReferenceNet(**layout, motion=False)
        animate: Any = AnimateNet(**layout, control_channels=sizes["control_channels"], previous=True)
        vae: Any = AutoencoderKL(latent_channels=4, **sizes["vae"])
        for network in (reference, animate, vae):
            network.to(device, dtype, memory_format=torch.channels_last)
        if fast:
            reference.unet.compile()
            animate.net.compile()
        self.video, self.sizes = VideoDiffusion(vae, reference, animate, animatediff_scheduler()), sizes

    def draw(self, frames: int, steps: int) -> int:
        side, width = self.sizes["side"], self.sizes["width"]
        text, nothing = torch.randn(2, TOKENS, width), torch.zeros(3, side, side)
        wanted = Wanted(
            frames, lambda a, b: text[:1].expand(b - a, -1, -1), text[1], torch.zeros(FACE),
            lambda a, b: nothing[:, None], nothing,
        )  # fmt: skip
        flat = Pose(np.zeros(3), np.array([side / 2, side / 2]), side / 4).to_image(canonical())
        mesh = np.concatenate([flat, -side / 4 * canonical()[:, 2:]], 1).astype(np.float32)
        portrait = np.random.default_rng(0).integers(0, 255, (side, side, 3), np.uint8)
        draw = FrameByFrame(self.video, wanted, Sampling(steps=steps, guidance=GUIDANCE), portrait, mesh)
        face = torch.randn(1, FACE)
        return sum(1 for _ in draw(iter([Step(mesh, face)] * frames)))


class Theirs:
    """diffusers' pipeline, called once a frame."""

    def __init__(self, sizes: dict[str, Any], device: torch.device, dtype: torch.dtype) -> None:
        unet: Any = UNet2DConditionModel(**sizes["unet"])
        controls: list[Any] = [ControlNetModel(**sizes["control"]) for _ in range(2)]
        vae: Any = AutoencoderKL(latent_channels=4, **sizes["vae"])
        self.pipeline: Any = StableDiffusionControlNetPipeline(
            vae=vae, text_encoder=None, tokenizer=None, unet=unet, controlnet=controls,  # type: ignore[arg-type]
            scheduler=animatediff_scheduler(), safety_checker=None, feature_extractor=None,  # type: ignore[arg-type]
            requires_safety_checker=False,
        )  # fmt: skip
        network = ReferenceNet(**sizes["reference"])
        own = network.state_dict()
        adapters: dict[str, dict[str, torch.Tensor]] = {"image_proj": {}, "ip_adapter": {}}
        for key, name in identity_slots(network).items():
            kind, _, rest = key.partition(".")
            adapters[kind][rest] = own[name]
        self.pipeline.unet._load_ip_adapter_weights([adapters])
        self.pipeline.to(device, dtype)
        self.pipeline.set_progress_bar_config(disable=True)
        self.sizes, self.device, self.dtype = sizes, device, dtype

    def draw(self, frames: int, steps: int) -> int:
        from PIL import Image

        side, width = self.sizes["side"], self.sizes["width"]
        pictures = [Image.new("RGB", (side, side)) for _ in range(2)]
        text, empty = torch.randn(2, 1, TOKENS, width, device=self.device, dtype=self.dtype)
        face = torch.randn(2, 1, FACE, device=self.device, dtype=self.dtype)
        for _ in range(frames):
            made = self.pipeline(
                prompt_embeds=text, negative_prompt_embeds=empty, image=pictures, height=side, width=side,
                num_inference_steps=steps, guidance_scale=GUIDANCE, ip_adapter_image_embeds=[face], output_type="np",
            )  # fmt: skip
            assert len(made.images) == 1
        return frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", nargs="+", type=int, default=[16, 64])
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--compile", action="store_true", help="compile our networks")
    parser.add_argument("--tiny", action="store_true")
    add_json_option(parser)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and not options.tiny:
        parser.exit(2, "error: no GPU here; the full size would take hours. --tiny runs the same code, small\n")
    dtype, sizes = torch.bfloat16 if device.type == "cuda" else torch.float32, sizes_of(options.tiny)
    sizes["control_channels"] = (4, 8, 8, 8) if options.tiny else (16, 32, 96, 256)
    torch.manual_seed(0)
    makers: dict[str, Callable[[], Any]] = {
        "ours": lambda: Ours(sizes, device, dtype, options.compile),
        "diffusers": lambda: Theirs(sizes, device, dtype),
    }
    rows = compared(makers, options.frames, options.steps, device)
    report(f"PortraitTalk on {where(device)}", rows, options.json)


if __name__ == "__main__":
    main()
