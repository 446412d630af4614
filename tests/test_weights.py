import json
from pathlib import Path

import pytest
import torch

from magictalk import weights
from magictalk.drive.audio2bs import Audio2BS
from magictalk.errors import WeightsError


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    Audio2BS(hidden=8, layers=1).save_pretrained(tmp_path / "net")
    return tmp_path / "net"


def test_a_folder_comes_back_as_it_was_saved(saved: Path) -> None:
    network = Audio2BS(hidden=8, layers=1)
    network.save_pretrained(saved)
    again = weights.load(Audio2BS, saved)
    assert not again.training
    assert all(
        torch.equal(a, b) for a, b in zip(network.state_dict().values(), again.state_dict().values(), strict=True)
    )


def test_the_package_ships_the_drive() -> None:
    assert "audio2bs" in weights.names()
    assert (weights.find("audio2bs") / "config.json").is_file()


def test_a_typo_lists_what_there_is() -> None:
    with pytest.raises(WeightsError, match="audio2bs"):
        weights.find("audio2b")


@pytest.mark.parametrize("part", ["config.json", "diffusion_pytorch_model.safetensors"])
def test_a_missing_file_is_named(saved: Path, part: str) -> None:
    (saved / part).unlink()
    with pytest.raises(WeightsError, match=part):
        weights.load(Audio2BS, saved)


def test_damage_and_mismatch_are_refused(saved: Path) -> None:
    tensors = saved / "diffusion_pytorch_model.safetensors"
    whole = tensors.read_bytes()
    tensors.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="cannot load Audio2BS"):
        weights.load(Audio2BS, saved)
    tensors.write_bytes(whole)
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps(config | {"hidden": 16}))
    with pytest.raises(WeightsError) as error:
        weights.load(Audio2BS, saved)
    assert "\n" not in str(error.value)
    (saved / "config.json").write_text(json.dumps(config | {"_class_name": "Other"}))
    with pytest.raises(WeightsError, match="holds Other"):
        weights.load(Audio2BS, saved)
    (saved / "config.json").write_text("{")
    with pytest.raises(WeightsError):
        weights.load(Audio2BS, saved)
