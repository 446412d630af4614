"""MCDM's memory-efficient temporal attention beside attention to all frames before, over more and more of them.

    python benchmarks/memory_speed.py [--history 16 32 64 128 256 512] [--json FILE]
    python benchmarks/memory_speed.py --tiny             # the same code, narrow layers, on any processor

A clip of 16 frames at the places and widths of Stable Diffusion 1.5's three attending levels (64 x 64 latents), weights
random, in bfloat16 on a GPU. Ours: the running memory and the clip, by FAVOR+ (section 3.4). Plain: the clip's queries
to keys and values of every frame of the history and its own, exact attention. Milliseconds are medians.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from table import Row, add_json_option, report, row
from torch import Tensor, nn

from magictalk.render.diffusion.clip_by_clip import FRAMES
from magictalk.render.diffusion.memory import MemoryTemporalAttention, MotionMemory

LEVELS = (320, 64), (640, 32), (1280, 16)
"""Widths, and places a side."""
TINY = (32, 8), (64, 4)
REPEATS = 7


class Plain(nn.Module):
    """Every frame of the clip attends to all frames there were."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.to_out = nn.Linear(width, width)

    def forward(self, present: Tensor, history: Tensor) -> Tensor:
        """``[P, f, d]`` of the clip and ``[P, h, d]`` of what was before."""
        every = torch.cat([history, present], 1)
        q, k, v = (
            layer(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for layer, x in ((self.to_q, present), (self.to_k, every), (self.to_v, every))
        )
        found = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.to_out(found.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


def measured(run: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """Milliseconds, and on a GPU megabytes at the peak."""
    gpu, times = device.type == "cuda", []
    for _ in range(REPEATS + 1):
        if gpu:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        run()
        if gpu:
            torch.cuda.synchronize()
        times.append(1000 * (time.perf_counter() - start))
    return float(np.median(times[1:])), torch.cuda.max_memory_allocated() / 2**20 if gpu else float("nan")


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--history", nargs="+", type=int, default=[16, 32, 64, 128, 256, 512])
    parser.add_argument("--tiny", action="store_true")
    add_json_option(parser)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and not options.tiny:
        parser.exit(2, "error: no GPU here; full size would take long. --tiny runs the same code, small\n")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    torch.manual_seed(0)
    rows: list[Row] = []
    for history in options.history:
        found = {"memory-efficient": [0.0, 0.0], "plain": [0.0, 0.0]}
        for width, side in TINY if options.tiny else LEVELS:
            places, heads = side * side, 8
            present, archived = (torch.randn(places, FRAMES, width, device=device, dtype=dtype) for _ in range(2))
            before = torch.randn(places, history, width, device=device, dtype=dtype)
            ours = MemoryTemporalAttention(width, heads).to(device, dtype)
            plain = Plain(width, heads).to(device, dtype)
            memory = MotionMemory()
            memory(before[:, -FRAMES:])  # what it keeps of any history is as large

            def efficient(ours: nn.Module = ours, present: Tensor = present, archived: Tensor = archived,
                          memory: MotionMemory = memory) -> Tensor:  # fmt: skip
                return ours(present, memory(archived))  # type: ignore[no-any-return]

            def exact(plain: nn.Module = plain, present: Tensor = present, before: Tensor = before) -> Tensor:
                return plain(present, before)  # type: ignore[no-any-return]

            for name, run in (("memory-efficient", efficient), ("plain", exact)):
                spent, peak = measured(run, device)
                found[name][0] += spent
                found[name][1] = max(found[name][1], peak)
        for name, (spent, peak) in found.items():
            rows.append(row(f"{history} frames of history: {name}", spent, "ms"))
            if device.type == "cuda":
                rows.append(row(f"{history} frames of history: {name}, peak", peak, "MB"))
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU, narrow layers"
    spent = {r["figure"]: r["value"] for r in rows}
    first, last = options.history[0], options.history[-1]
    grown = spent[f"{last} frames of history: memory-efficient"] / spent[f"{first} frames of history: memory-efficient"]
    rows.append(row(f"memory-efficient, {last} over {first} frames", grown, "x", "< 1.2 (flat)", grown < 1.2))
    report(f"temporal attention on {name}", rows, options.json)


if __name__ == "__main__":
    main()
