"""Fixtures every test may use."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")  # a change that passes here passes everywhere

@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the real data, beside the checkout; tests that need it skip without it."""
    path = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not (path / "manifest.csv").is_file():
        pytest.skip("needs the data folder ../shared/data")
    return path


@pytest.fixture(scope="session")
def astronaut() -> np.ndarray:
    """A real portrait in the public domain, uint8 RGB [512, 512, 3]."""
    from skimage import data

    return data.astronaut()


@pytest.fixture(scope="session")
def hubert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny HuBERT of random weights, as transformers saves it."""
    import torch
    from transformers import HubertConfig, HubertModel

    torch.manual_seed(0)
    config = HubertConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, conv_dim=[16] * 7,
        num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("hubert")
    HubertModel(config).save_pretrained(path)
    return path
