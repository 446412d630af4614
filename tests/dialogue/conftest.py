"""A small cast on the disk, and scripts for it."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from magictalk.dialogue.script import Script


@pytest.fixture(scope="session")
def folder(astronaut, tmp_path_factory) -> Path:
    """A folder with two pictures of different sizes, the second mirrored, and a recording of a tone."""
    from scipy.io import wavfile

    folder = tmp_path_factory.mktemp("cast")
    Image.fromarray(astronaut[20:240, 120:319]).save(folder / "ann.png")
    Image.fromarray(np.ascontiguousarray(astronaut[:400, ::-1])).resize((384, 300)).save(folder / "bob.png")
    seconds = np.arange(44100) / 44100
    tone = (0.5 * np.sin(2 * np.pi * 440 * seconds) * 32767).astype(np.int16)
    wavfile.write(folder / "tone.wav", 44100, np.stack([tone, np.zeros_like(tone)], 1))
    return folder


@pytest.fixture
def content() -> dict:
    """What a good script holds; each test changes its own copy."""
    return {
        "characters": {"Ann": {"portrait": "ann.png", "voice": "en+f3"}, "Bob": {"portrait": "bob.png", "pitch": 30}},
        "lines": [
            {"who": "Ann", "text": "Where were you yesterday?", "emotion": "angry 0.8"},
            {"who": "Bob", "text": "I was here, as always.", "pause": 0.5},
            {"who": "Ann", "audio": "tone.wav"},
        ],
    }


@pytest.fixture
def script(folder, content) -> Script:
    return Script.parse(content, folder)


@pytest.fixture
def write(tmp_path, folder):
    """Write a script beside links to the cast's files."""

    def call(content: object) -> Path:
        for file in folder.iterdir():
            if not (tmp_path / file.name).exists():
                (tmp_path / file.name).symlink_to(file)
        path = tmp_path / "script.yaml"
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, allow_unicode=True), "utf-8")
        return path

    return call
