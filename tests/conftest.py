"""Fixtures every test may use."""

from pathlib import Path

import numpy as np
import pytest


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
