"""The commands of ``magictalk data``: parse, call the library, print."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from magictalk.app.output import progress
from magictalk.errors import OptionError

if TYPE_CHECKING:
    from magictalk.data.sources import Source
    from magictalk.data.table import ClipRecord

app = typer.Typer(help="Turn raw videos into a training set.", no_args_is_help=True)


@app.callback()
def _common() -> None:
    """Keeps ``build`` a command of its own while it is the only one."""


@app.command("build")
def build_command(
    raw: Annotated[list[Path], typer.Argument(metavar="RAW...", help="Videos, and folders of them.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DATASET", help="The folder to write.")],
    manifest: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="CSV with columns file, identity, split, language, licence_class; else manifest.csv in or beside RAW.",
        ),
    ] = None,
    no_manifest: Annotated[bool, typer.Option("--no-manifest", help="Use no manifest, even if there is one.")] = False,
    size: Annotated[int, typer.Option(help="Side of the square pictures, pixels.")] = 512,
    min_face: Annotated[float, typer.Option(metavar="PX", help="Least width of a face in the raw video.")] = 80,
    min_sharpness: Annotated[float, typer.Option(help="Least CPBD of a face, 0 to 1.")] = 0.02,
    quality_model: Annotated[
        Path | None, typer.Option(metavar="FILE", help="TorchScript that scores RGB pictures [B, 3, H, W] in 0..1.")
    ] = None,
    min_quality: Annotated[float | None, typer.Option(help="Least score by --quality-model.")] = None,
    max_offset: Annotated[
        float, typer.Option(metavar="SECONDS", help="Sound that is off by this or less is moved; by more, dropped.")
    ] = 0.3,
    sync_model: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Judge lip-sync by SyncNet with these weights.")
    ] = None,
    no_sync: Annotated[bool, typer.Option("--no-sync", help="Do not judge lip-sync.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one a core by default.")] = None,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Work on this Ray cluster; local starts one here.")
    ] = None,
    shard_mb: Annotated[float, typer.Option(help="About how large a shard is.")] = 256,
    seed: Annotated[int, typer.Option(min=0, help="Of the splits.")] = 0,
) -> None:
    """Cut RAW into talking-head clips, drop bad ones, annotate the rest, and pack them for training."""
    from magictalk.data.build import build, is_complete
    from magictalk.data.runners import LocalRunner, RayRunner
    from magictalk.data.settings import Settings
    from magictalk.data.sources import find_manifest, find_sources

    if manifest is not None and no_manifest:
        raise OptionError("--manifest and --no-manifest contradict each other; give one of them")
    if sync_model is not None and no_sync:
        raise OptionError("--sync-model and --no-sync contradict each other; give one of them")
    if (quality_model is None) != (min_quality is None):
        raise OptionError("--quality-model and --min-quality belong together; give both or neither")
    settings = Settings(
        size=size,
        min_face_px=min_face,
        min_sharpness=min_sharpness,
        quality_model=None if quality_model is None else str(quality_model.resolve()),
        min_quality=min_quality or 0.0,
        sync="none" if no_sync else "expert" if sync_model is None else "syncnet",
        sync_model=None if sync_model is None else str(sync_model.resolve()),
        max_offset_s=max_offset,
        shard_mb=shard_mb,
        seed=seed,
    )
    chosen = None if no_manifest else manifest or find_manifest(raw)
    sources = find_sources(raw, chosen)
    print(_described(sources, chosen))
    if is_complete(sources, output, settings):
        print(f"{output} is complete already; nothing to do")
    begun = time.monotonic()
    many = workers or os.cpu_count() or 1
    try:
        with progress() as told:
            runner = LocalRunner(many) if ray is None else RayRunner(ray, many)
            records = build(sources, output, settings, runner, told)
    except KeyboardInterrupt:
        print("stopped; the same command goes on where it was", file=sys.stderr)
        raise SystemExit(130) from None
    _summarise(records, time.monotonic() - begun)
    print(output)


def _described(sources: list[Source], manifest: Path | None) -> str:
    """One line on what is found."""
    videos = f"{len(sources)} video{'s' if len(sources) > 1 else ''}"
    if manifest is None:
        return f"{videos}, no manifest"
    known = sum(bool(s.identity or s.split) for s in sources)
    return f"{videos}; {manifest} describes {known} of them"


def _summarise(records: list[ClipRecord], seconds: float) -> None:
    """MCDM's Table 1 of the dataset, and what was dropped by which stage."""
    from rich.console import Console
    from rich.table import Table

    from magictalk.data.report import statistics

    found = statistics(records)
    table = Table(title="dataset", show_header=False)
    for name, value in (
        ("languages", found.languages),
        ("identities", found.identities),
        ("clips", found.clips),
        ("hours", f"{found.hours:.2f}"),
        ("mean length", f"{found.mean_s:.1f} s"),
        *(
            (f"clips to {split}", f"{share.clips} of {share.identities} people")
            for split, share in found.splits.items()
        ),
        ("sound moved", sum(r.corrected for r in records if r.kept)),
        ("time per minute of video", f"{seconds / max(1e-9, 60 * found.raw_hours):.1f} s"),
    ):
        table.add_row(name, str(value))
    console = Console()
    console.print(table)
    if found.dropped:
        causes = Table("stage", "dropped because", "clips")
        for (stage, reason), count in found.dropped.items():
            causes.add_row(stage, reason, str(count))
        console.print(causes)
