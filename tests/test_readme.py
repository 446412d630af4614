"""The README tells the truth: its tables are the measured ones, the files it names exist."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def test_tables_are_those_that_benchmarks_wrote():
    spec = importlib.util.spec_from_file_location("readme", ROOT / "benchmarks" / "readme.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.fill(README, ROOT / "docs" / "figures") == README


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "figures").glob("*.json")), ids=lambda p: p.stem)
def test_figures_are_rows_of_the_agreed_form(path):
    for row in json.loads(path.read_text()):
        assert set(row) == {"figure", "value", "unit", "target", "met"}
        assert isinstance(row["value"], int | float)
        assert row["met"] in (True, False, None)
        assert (row["target"] is None) == (row["met"] is None)


def test_named_files_exist():
    named = re.findall(r"`((?:src|docs|recipes|benchmarks|tests)/[\w./]*)`", README)
    assert len(named) > 20
    missing = [name for name in named if not (ROOT / name).exists()]
    assert not missing


def test_pictures_exist():
    for name in re.findall(r"!\[[^]]*\]\(([^)]+)\)", README):
        assert (ROOT / name).is_file()
