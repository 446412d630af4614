from collections.abc import Callable
from types import ModuleType

import numpy as np
import torch


def test_the_plain_one_attends_to_all_frames_there_were(script: Callable[[str], ModuleType]) -> None:
    torch.manual_seed(0)
    plain = script("memory_speed").Plain(8, 2)
    present, history = torch.randn(3, 4, 8), torch.randn(3, 6, 8)
    with torch.inference_mode():
        found = plain(present, history).numpy()
        q, k, v = (
            layer(x).numpy().reshape(3, -1, 2, 4)
            for layer, x in (
                (plain.to_q, present),
                (plain.to_k, torch.cat([history, present], 1)),
                (plain.to_v, torch.cat([history, present], 1)),
            )
        )
        scores = np.exp(np.einsum("pfhd,pghd->phfg", q, k) / 2)
        mixed = np.einsum("phfg,pghd->pfhd", scores / scores.sum(-1, keepdims=True), v).reshape(3, 4, 8)
        wanted = plain.to_out(torch.from_numpy(mixed)).numpy()
    assert np.allclose(found, wanted, atol=1e-5)
