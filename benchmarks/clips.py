"""The files of the data folder that benchmarks measure on."""

from __future__ import annotations

import csv
from pathlib import Path


def data_folder() -> Path:
    """The data folder beside the checkout."""
    return Path(__file__).resolve().parents[2] / "shared" / "data"


def manifest(data: Path, kind: str) -> list[dict[str, str]]:
    """Rows of the manifest of one kind (``video``, ``portrait``, ``speech``, ``phones``)."""
    with (data / "manifest.csv").open(newline="", encoding="utf-8") as file:
        return [r for r in csv.DictReader(file) if r["kind"] == kind]


def videos(data: Path, split: str) -> list[dict[str, str]]:
    """Videos of one split."""
    return [r for r in manifest(data, "video") if r["split"] == split]
