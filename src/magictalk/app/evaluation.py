"""The commands ``evaluate`` and ``benchmark``: parse, call the library, print."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from magictalk.app.output import check_free, progress, whole
from magictalk.errors import MissingDependencyError

_WIDEST = 180
"""Characters that a table of all the papers' columns takes, however narrow the terminal."""

_EVERY = Annotated[
    int, typer.Option("--every", min=1, metavar="N", help="Costly figures look at every Nth frame only.")
]
_WEIGHTS = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Networks that some figures need, a sub-folder each.", show_default=False),
]
_JSON = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Also write the figures as JSON rows.")]
_MARKDOWN = Annotated[Path | None, typer.Option("--markdown", metavar="FILE", help="Also write them as Markdown.")]
_OVERWRITE = Annotated[bool, typer.Option("--overwrite", help="Replace such files if they exist.")]


def evaluate_command(
    generated: Annotated[
        Path, typer.Argument(metavar="GENERATED", help="A video, or a folder of videos.", show_default=False)
    ],
    reference: Annotated[
        Path | None,
        typer.Option(metavar="REAL", help="The real video, or a folder of them, paired by path.", show_default=False),
    ] = None,
    portrait: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Who it should be, where there is no real video.")
    ] = None,
    text: Annotated[str | None, typer.Option(help="The prompt, for CLIP-T.")] = None,
    emotion: Annotated[str | None, typer.Option(help="The emotion asked for, for emotion accuracy.")] = None,
    phonemes: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="When p, b and m are said: .csv or .json of start, end, phoneme, (clip)."),
    ] = None,
    weights: _WEIGHTS = None,
    every: _EVERY = 5,
    json: _JSON = None,
    csv: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Also write them as CSV.")] = None,
    markdown: _MARKDOWN = None,
    drift: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write likeness to the person, frame by frame, as CSV.")
    ] = None,
    overwrite: _OVERWRITE = False,
) -> None:
    """Measure GENERATED videos, against real ones where there are any."""
    _check_outputs(json, csv, markdown, drift, overwrite=overwrite)
    with _extra():
        from magictalk.metrics.evaluation import evaluate

    with progress() as told:
        report = evaluate(
            generated,
            reference,
            portrait=portrait,
            text=text,
            emotion=emotion,
            phonemes=phonemes,
            weights=weights,
            every=every,
            progress=told,
        )
    Console().print(report.table())
    for note in report.notes():
        print(note)
    for path, text_ in ((json, report.json), (csv, report.csv), (markdown, report.markdown), (drift, report.drift)):
        _write(path, text_)


def benchmark_command(
    systems: Annotated[
        list[str], typer.Argument(metavar="SYSTEM...", help="Names such as emodiff and still.", show_default=False)
    ],
    data: Annotated[
        Path, typer.Option(metavar="DATASET", help="A folder made by magictalk data build.", show_default=False)
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="OUT", help="Where videos and results are kept; goes on there.")
    ] = Path("benchmark"),
    protocol: Annotated[
        list[str] | None,
        typer.Option(
            metavar="self|cross|grid",
            help="self: first frame and own sound of each test clip. cross: the sound of somebody else. grid: "
            "every one of --portraits with every one of --voices. By default self and cross, and grid where "
            "there are portraits and voices.",
            show_default=False,
        ),
    ] = None,
    portraits: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Pictures for the grid; 20 count.")] = None,
    voices: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Sounds for the grid; 20 count.")] = None,
    seconds: Annotated[float, typer.Option(min=1.0, help="Of each voice in the grid.")] = 5.0,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="At most so many clips a protocol.")] = None,
    weights: _WEIGHTS = None,
    every: _EVERY = 5,
    seed: Annotated[int, typer.Option(min=0, help="Of the systems.")] = 0,
    seeds: Annotated[
        int, typer.Option(min=1, metavar="N", help="Takes of each video, for diversity; only the first is judged.")
    ] = 1,
    json: _JSON = None,
    markdown: _MARKDOWN = None,
    overwrite: _OVERWRITE = False,
) -> None:
    """Measure SYSTEMs on the test split of a dataset; run it again to go on with a job that broke off."""
    _check_outputs(json, markdown, overwrite=overwrite)
    with _extra():
        from magictalk.metrics.benchmark import benchmark

    try:
        with progress() as told:
            result = benchmark(
                systems,
                data,
                output,
                protocols=protocol,
                portraits=portraits,
                voices=voices,
                seconds=seconds,
                limit=limit,
                weights=weights,
                every=every,
                seed=seed,
                seeds=seeds,
                progress=told,
            )
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        raise SystemExit(130) from None
    console = Console(width=max(Console().width, _WIDEST))
    for table in result.tables():
        console.print(table)
    for remark in result.remarks():
        print(remark)
    _write(json, result.json)
    _write(markdown, result.markdown)


@contextmanager
def _extra() -> Iterator[None]:
    """Say how to install the libraries that only figures need.

    Raises:
        MissingDependencyError: one of them is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"figures need {error.name}, which is not installed; pip install 'magictalk[metrics]'"
        ) from error


def _check_outputs(*paths: Path | None, overwrite: bool) -> None:
    for path in paths:
        if path is not None:
            check_free(path, overwrite)


def _write(path: Path | None, text: Callable[[], str]) -> None:
    if path is not None:
        with whole(path, overwrite=True) as part:  # that it may be replaced was made sure of before the work
            part.write_text(text(), "utf-8")
