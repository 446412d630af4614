"""Complexity: parameters, and floating-point operations a frame, beside what the paper states (MagicTalk, table 3).

    python benchmarks/complexity.py [--seconds 20] [--json FILE]

Operations are counted by torch while the drives really run on a voice, so that windows that overlap, both halves of
the guidance and every denoising step count. An addition and a multiplication are two operations; the paper does not
say how it counts. Its figures hold a network that draws the face; here the rig draws it, without any network, and what
that takes on this processor is measured instead.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable

import torch
from drives import Networks, add_weights_options, motion_of
from table import Row, add_json_option, report, row
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from magictalk.motion import FPS, Motion
from magictalk.portrait import Portrait
from magictalk.speech import RATE, Speech
from magictalk.style import Style

PAPER = {"EAMM": (57, 101), "PD-FGC": (230, 146), "SadTalker": (762, 198), "MagicTalk, the paper's": (641, 168)}
"""GFLOPs and millions of parameters, as table 3 states them."""
TEXT = "Every picture has a voice. Give it one, and it will look you in the eye and tell you about its day. "


def operations(call: Callable[[], object]) -> int:
    """Floating-point operations of the networks in a call.

    The counter knows matrix products and convolutions. So LSTMs and attention must run as those, not as one kernel.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch remarks that it has no Intel GPU
            with (
                torch.backends.mkldnn.flags(enabled=False),
                sdpa_kernel(SDPBackend.MATH),
                FlopCounterMode(display=False) as counter,
            ):
                call()
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return int(counter.get_total_flops())


def millions(*networks: nn.Module) -> float:
    """Their parameters."""
    return sum(p.numel() for network in networks for p in network.parameters()) / 1e6


def drawing(motion: Motion, pixels: int = 512) -> float:
    """Milliseconds that the rig render takes a frame, at ``pixels`` squared."""
    from skimage import data

    from magictalk.render.rig import RigRender

    render = RigRender(Portrait.from_array(data.astronaut()), (pixels, pixels))
    frames = render(iter([motion]))
    next(frames)  # compiles, and loads what the first frame needs
    begun = time.perf_counter()
    drawn = sum(1 for _ in frames)
    return 1000 * (time.perf_counter() - begun) / drawn


def count(networks: Networks, seconds: float) -> list[Row]:
    """Rows of each part and the whole, a frame of a voice of this many seconds."""
    voice = Speech.say(TEXT * (1 + round(seconds / 4))).samples()[: round(seconds * RATE)]
    frames = round(len(voice) / RATE * FPS)
    neutral = Style.neutral()
    whole = networks.drive(neutral)
    motion = motion_of(whole, voice)
    gflops = {
        "all": operations(lambda: motion_of(whole, voice)) / frames / 1e9,
        "EmoDiff": operations(lambda: motion_of(networks.drive(neutral, refine=False), voice)) / frames / 1e9,
        "Audio2BS": operations(lambda: list(networks.neutral.stream(iter([voice])))) / frames / 1e9,
    }
    rest = gflops["all"] - gflops["EmoDiff"] - gflops["Audio2BS"]
    parts = {
        f"EmoDiff ({whole.steps} steps, guidance {whole.guidance:g})": (gflops["EmoDiff"], millions(networks.whole)),
        "Audio2BS": (gflops["Audio2BS"], millions(networks.neutral.network)),
        "emotional residue": (rest, millions(networks.residue)),
        "this MagicTalk, all networks": (
            gflops["all"], millions(networks.whole, networks.neutral.network, networks.residue),
        ),
    }  # fmt: skip
    rows = []
    for name, (operations_a_frame, parameters) in (parts | PAPER).items():
        stated = " (as the paper states)" if name in PAPER else ""
        rows.append(row(f"{name}: operations a frame{stated}", operations_a_frame, "GFLOPs"))
        rows.append(row(f"{name}: parameters{stated}", parameters, "million"))
    rows.append(row("drawing by the rig, no network, 512x512, on this processor", drawing(motion[:100]), "ms a frame"))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_weights_options(parser)
    parser.add_argument("--seconds", type=float, default=20, help="of the voice that is counted on")
    add_json_option(parser)
    options = parser.parse_args()
    begun = time.perf_counter()
    report("Complexity", count(Networks.load(options.weights, options.lips), options.seconds), options.json)
    print(f"took {time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
