"""What commands write: files that appear whole or not at all, and a bar on the terminal."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from magictalk.errors import OptionError

LONGEST_NAME = 240
"""Bytes of a name: what file systems take, less what names of unfinished files add."""


def check_free(path: Path, overwrite: bool) -> None:
    """Make sure that a file can be written under this name.

    Raises:
        OptionError: when it is a folder, exists and may not be replaced, has too long a name, or its folder is missing
            or shut.
    """
    if len(os.fsencode(path.name)) > LONGEST_NAME:
        raise OptionError(f"the output's name has more than {LONGEST_NAME} bytes; choose a shorter one")
    if path.is_dir():
        raise OptionError(f"{path} is a folder; expected a file name")
    if path.exists() and not overwrite:
        raise OptionError(f"{path} exists; give another name, or --overwrite")
    if not path.parent.is_dir():
        raise OptionError(f"no folder at {path.parent}; create it first")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise OptionError(f"nothing may be written to {path.parent}; check its permissions")


@contextmanager
def whole(path: Path, overwrite: bool) -> Iterator[Path]:
    """A name to write to; what is there gets the asked name when it is whole, and goes away when it is not."""
    check_free(path, overwrite)
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        yield part
        os.replace(part, path)
    except OSError as cause:
        raise OptionError(f"cannot write {path}: {cause.strerror or cause}") from cause
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar on the terminal, nothing where stderr is a file; yields what is told of what is done, and of how much."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("left"),
    )  # fmt: skip
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total)
