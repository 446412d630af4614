"""Where networks are found, and what is said where they are not or are broken."""

import shutil

import numpy as np
import pytest
import torch

from magictalk.errors import WeightsError
from magictalk.metrics import networks
from magictalk.metrics.networks import NETWORKS, NotComputed, find


def test_a_folder_of_weights_holds_one_for_each(weights):
    for name in NETWORKS.keys() - {"syncnet"}:
        assert find(name, weights) == weights / name


def test_none_is_downloaded(monkeypatch):
    import socket

    def refuse(*_):
        raise AssertionError("asked the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    for name, network in NETWORKS.items():
        with pytest.raises(NotComputed, match=r"^needs ") as caught:
            find(name)
        assert network.title in str(caught.value) and f"WEIGHTS/{name}" in str(caught.value)
        assert str(caught.value).endswith("; then give --weights WEIGHTS")


def test_the_hubs_cache_is_looked_into(weights, hub_cache):
    snapshot = hub_cache / "models--facebook--dinov2-base" / "snapshots" / "0123abcd"
    shutil.copytree(weights / "dino", snapshot)
    (hub_cache / "models--facebook--dinov2-base" / "refs").mkdir()
    (hub_cache / "models--facebook--dinov2-base" / "refs" / "main").write_text("0123abcd")
    assert find("dino") == find("dino", weights.parent) == snapshot
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(NotComputed):
        find("dino")


def test_an_incomplete_folder_is_no_network(weights, tmp_path):
    shutil.copytree(weights / "clip", tmp_path / "clip")
    (tmp_path / "clip" / "tokenizer.json").unlink()
    with pytest.raises(NotComputed):
        find("clip", tmp_path)


def test_a_mistyped_folder_is_an_error_not_a_missing_network(tmp_path):
    with pytest.raises(WeightsError, match=r"no folder of weights at .*nowhere") as caught:
        find("clip", tmp_path / "nowhere")
    assert not isinstance(caught.value, NotComputed)


def test_a_damaged_script_is_named(tmp_path):
    (tmp_path / "lpips").mkdir()
    (tmp_path / "lpips" / "lpips.pt").write_bytes(b"no such thing")
    with pytest.raises(WeightsError, match=r"lpips\.pt.*TorchScript"):
        networks.script("lpips", tmp_path)


def test_a_pickle_is_no_script(tmp_path):
    (tmp_path / "lpips").mkdir()
    torch.save({"weight": torch.zeros(3)}, tmp_path / "lpips" / "lpips.pt")
    with pytest.raises(WeightsError, match="TorchScript"):
        networks.script("lpips", tmp_path)


@pytest.mark.parametrize("damage", ["cut", "missing weight"])
def test_damaged_safetensors_are_named(weights, tmp_path, damage):
    from safetensors.torch import load_file, save_file

    shutil.copytree(weights / "dino", tmp_path / "dino")
    file = tmp_path / "dino" / "model.safetensors"
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:1000])
    else:
        tensors = load_file(file)
        tensors.pop("layernorm.weight")
        save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(WeightsError, match="dino"):
        networks.pretrained("dino", "AutoModel", tmp_path)


def test_batches_hold_every_frame_once(pictures):
    parts = list(networks.batches(pictures[0], 4))
    assert [part.shape for part in parts] == [(4, 3, 96, 128), (2, 3, 96, 128)]
    assert np.array_equal(torch.cat(parts).permute(0, 2, 3, 1).numpy(), pictures[0])
