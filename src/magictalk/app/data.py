"""The commands of ``magictalk data``: parse, call the library, print."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from magictalk.app.output import progress
from magictalk.errors import OptionError

if TYPE_CHECKING:
    from magictalk.data.runners import Runner
    from magictalk.data.sources import Source
    from magictalk.data.table import ClipRecord

app = typer.Typer(help="Turn raw videos into a training set.")


@app.callback(invoke_without_command=True)
def _common(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command("build")
def build_command(
    raw: Annotated[list[Path], typer.Argument(metavar="RAW...", help="Videos, and folders of them.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DATASET", help="The folder to write.")],
    manifest: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="CSV with columns file, identity, split, language, licence_class; else manifest.csv in or by a RAW.",
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
        float,
        typer.Option(
            metavar="SECONDS", help="Sound that is off by this or less (and over 0.05) is moved; by more, dropped."
        ),
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
    from magictalk.data.build import build, is_begun, is_complete
    from magictalk.data.settings import Settings

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
    sources, manifests = _sources(raw, manifest, no_manifest)
    print(_described(sources, manifests))
    if is_complete(sources, output, settings):
        print(f"{output} is complete already; nothing to do")
    begun, new = time.monotonic(), not is_begun(output)
    try:
        with progress() as told, _runner(ray, workers or os.cpu_count() or 1) as runner:
            records = build(sources, output, settings, runner, told)
    except KeyboardInterrupt:
        print("stopped; the same command goes on where it was", file=sys.stderr)
        raise SystemExit(130) from None
    _summarise(records, time.monotonic() - begun if new else None)
    print(output)


@contextmanager
def _runner(address: str | None, workers: int) -> Iterator[Runner]:
    from magictalk.data.runners import LocalRunner, RayRunner

    if address is None:
        yield LocalRunner(workers)
    else:
        with closing(RayRunner(address, workers)) as runner:
            yield runner


def _sources(raw: Sequence[Path], manifest: Path | None, no_manifest: bool) -> tuple[list[Source], list[Path]]:
    """The raw videos, and the manifests that describe them: the one given, or else those there are."""
    from magictalk.data.sources import ManifestError, find_manifest, find_sources

    if manifest is not None or no_manifest:
        return find_sources(raw, manifest), [manifest] if manifest else []
    found = list(dict.fromkeys(m for r in raw if (m := find_manifest([r]))))
    try:
        return find_sources(raw, *found), found
    except ManifestError as error:
        raise ManifestError(f"{error}; or give --no-manifest to use none") from error


def _described(sources: list[Source], manifests: list[Path]) -> str:
    """One line on what is found."""
    videos = f"{len(sources)} video{'s' if len(sources) > 1 else ''}"
    if not manifests:
        return f"{videos}, no manifest"
    known = sum(bool(s.identity or s.split) for s in sources)
    names, verb = ", ".join(map(str, manifests)), "describes" if len(manifests) == 1 else "describe"
    return f"{videos}; {names} {verb} {known} of them"


def _summarise(records: list[ClipRecord], seconds: float | None) -> None:
    """MCDM's Table 1 of the dataset, and what was dropped by which stage; ``seconds`` when one run did all the work."""
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
        *(
            [("time per minute of video", f"{seconds / (60 * found.raw_hours):.1f} s")]
            if seconds and found.raw_hours
            else []
        ),
    ):
        table.add_row(name, str(value))
    console = Console()
    console.print(table)
    if found.dropped:
        causes = Table("stage", "dropped because", "clips")
        for (stage, reason), count in found.dropped.items():
            causes.add_row(stage, reason, str(count))
        console.print(causes)
