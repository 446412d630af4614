"""Benchmarks are scripts that import their neighbours by name; here they are imported as such."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """A benchmark by name, with its neighbours; forgotten after the test."""
    own = {path.stem for path in FOLDER.glob("*.py")}
    for name in own & set(sys.modules):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module
    for name in own & set(sys.modules):
        del sys.modules[name]
