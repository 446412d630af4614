"""The commands of ``magictalk data``: parse, call the library, print."""

from __future__ import annotations

import typer

app = typer.Typer(help="Turn raw videos into a training set.", no_args_is_help=True)


@app.command("build")
def build_command() -> None:
    """Build a dataset."""


@app.callback()
def _common() -> None:
    pass
