"""Weights on the command line: what ships, and what can be fetched."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

app = typer.Typer(help="What networks there are: in the package, and to be fetched.", no_args_is_help=True)


@app.command("list")
def list_command() -> None:
    """Name the networks in the package; their cards lie beside them."""
    from magictalk import weights

    for name in weights.names():
        print(f"{name:24} {weights.find(name)}")


@app.command("pull")
def pull_command(
    system: Annotated[Literal["magic-talk"], typer.Argument(help="Whose full tier.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to put them in.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    endpoint: Annotated[str | None, typer.Option(metavar="URL", help="A mirror of the hub.")] = None,
) -> None:
    """Fetch public checkpoints of SYSTEM's full tier, after saying how large they are and whose licence they have."""
    from magictalk.render.diffusion.public import IDENTITY, listing, pull

    files = listing(endpoint=endpoint)
    for part in dict.fromkeys(file.part for file in files):
        own = [file for file in files if file.part == part]
        size = sum(file.size for file in own) / 1e6
        print(f"{part.role:10} {part.repository:45} {size:8.0f} MB   licence: {own[0].licence}")
    print(f"in all {sum(file.size for file in files) / 1e9:.2f} GB, into {output}")
    print(f"not fetched: {IDENTITY}")
    if not yes and not typer.confirm("Do you accept these licences, and shall they be fetched?"):
        print("nothing was fetched")
        return
    pull(files, output, endpoint)
    print(output)
