from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from magictalk.audio.features import features
from magictalk.audio.fronts import HubertFront, LogMelFront, load_hubert
from magictalk.errors import WeightsError


def _noise(n: int) -> np.ndarray:
    return np.random.default_rng(n).normal(0, 0.1, n).astype(np.float32)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 30_000), st.data())
def test_log_mel_rows_are_the_features(n: int, data: st.DataObject) -> None:
    samples, front = _noise(n), LogMelFront()
    cuts = sorted(data.draw(st.lists(st.integers(0, n), max_size=5)))
    rows = np.concatenate([*(front.push(piece) for piece in np.split(samples, cuts)), front.finish()])
    mel = features(samples)
    assert rows.shape == (-(-len(mel) // 4), 320)
    assert np.allclose(rows.reshape(-1, 80)[: len(mel)], mel, atol=1e-4)
    assert (rows.reshape(-1, 80)[len(mel) :] == -3.5).all()


@settings(max_examples=6, deadline=None)
@given(st.integers(1, 640 * 140), st.data())
def test_hubert_rows_cover_the_sound_whatever_the_pieces(hubert_folder: Path, n: int, data: st.DataObject) -> None:
    model, samples = load_hubert(hubert_folder), _noise(n)
    cuts = sorted(data.draw(st.lists(st.integers(0, n), max_size=4)))
    one, other = HubertFront(model), HubertFront(model)
    whole = np.concatenate([one.push(samples), one.finish()])
    parts = np.concatenate([*(other.push(piece) for piece in np.split(samples, cuts)), other.finish()])
    assert whole.shape == (-(-n // 640), 24) and np.isfinite(whole).all()
    assert np.allclose(whole, parts, atol=1e-5)


def test_a_short_sound_is_heard_as_hubert_hears_it(hubert_folder: Path) -> None:
    model, samples = load_hubert(hubert_folder), _noise(640 * 40)
    front = HubertFront(model)
    rows = np.concatenate([front.push(samples), front.finish()])
    spread = np.pad((samples - samples.mean()) / samples.std(), 40).astype(np.float32)
    with torch.inference_mode():
        vectors = model(torch.from_numpy(spread)[None]).last_hidden_state[0].numpy()
    assert len(vectors) == 80  # fifty a second
    assert np.allclose(rows, (vectors[::2] + vectors[1::2]) / 2, atol=1e-5)


def test_the_memory_of_hubert_is_bounded(hubert_folder: Path) -> None:
    front = HubertFront(load_hubert(hubert_folder))
    for i in range(20):
        front.push(_noise(16_000 + i))
        assert len(front._samples) <= (25 + 50 + 10) * 640 + 16_020


def test_weights_that_are_not_huberts(hubert_folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(hubert_folder / "model.safetensors")
    (tmp_path / "config.json").write_text((hubert_folder / "config.json").read_text())
    with pytest.raises(WeightsError, match=r"a pickled .* is not read"):
        load_hubert(tmp_path)
    name = "encoder.layers.0.attention.k_proj.weight"
    for change in ({"odd.weight": torch.zeros(2)}, {name: None}):
        kept = {k: v for k, v in (tensors | change).items() if v is not None}
        save_file(kept, tmp_path / "model.safetensors", {"format": "pt"})
        with pytest.raises(WeightsError, match=f"{tmp_path} does not hold.*{next(iter(change))}"):
            load_hubert(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(WeightsError, match="cannot load HuBERT from"):
        load_hubert(tmp_path)
