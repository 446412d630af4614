"""A dataset's report: one HTML file with its figures, what each filter dropped, and a contact sheet to look through."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from magictalk.data.contact_sheet import make_cards
from magictalk.data.dataset import read_embeddings
from magictalk.data.identities import conflicts
from magictalk.data.table import ClipRecord
from magictalk.errors import MissingDependencyError

REPORT = "report.html"
"""Name of the report in a dataset's folder."""

PAPER = {
    "Languages": "10",
    "Identities": "3,452",
    "Clips": "31.3k",
    "Total length": "241.6 h",
    "Mean length": "27.8 s",
}
"""MCDM's table 1: TalkingFace-Wild."""

_LISTED = 500
"""Dropped clips listed by name."""


@dataclass(frozen=True)
class Share:
    """Some of the kept clips: how many, of how many people, how long."""

    clips: int
    identities: int
    hours: float


@dataclass(frozen=True)
class Statistics:
    """What is in a dataset, MCDM's table 1 first.

    Attributes:
        languages: different ones of kept clips, where known.
        identities: people in kept clips.
        clips: kept.
        hours: of kept clips.
        mean_s: seconds, mean length of a kept clip.
        raw_hours: of all clips, before any was dropped.
        splits, by_language, by_licence: shares of the kept clips, by name; what is not known is ``"unknown"``.
        dropped: clips by stage and reason, most frequent first.
    """

    languages: int
    identities: int
    clips: int
    hours: float
    mean_s: float
    raw_hours: float
    splits: dict[str, Share]
    by_language: dict[str, Share]
    by_licence: dict[str, Share]
    dropped: dict[tuple[str, str], int]

    def table(self) -> dict[str, str]:
        """MCDM's table 1 in words, with the rows of ``PAPER``."""
        return {
            "Languages": str(self.languages),
            "Identities": f"{self.identities:,}",
            "Clips": f"{self.clips:,}",
            "Total length": f"{self.hours:.1f} h" if self.hours >= 1 else f"{60 * self.hours:.1f} min",
            "Mean length": f"{self.mean_s:.1f} s",
        }


def statistics(records: Sequence[ClipRecord]) -> Statistics:
    """Count the rows of a dataset's table."""
    kept = [r for r in records if r.kept]
    hours = sum(r.duration for r in kept) / 3600
    return Statistics(
        languages=len({_language(r) for r in kept} - {"unknown"}),
        identities=len({r.identity for r in kept}),
        clips=len(kept),
        hours=hours,
        mean_s=3600 * hours / len(kept) if kept else 0.0,
        raw_hours=sum(r.duration for r in records) / 3600,
        splits=_shares(kept, lambda r: r.split),
        by_language=_shares(kept, _language),
        by_licence=_shares(kept, lambda r: r.licence or "unknown"),
        dropped=dict(Counter((r.stage, r.reason) for r in records if not r.kept).most_common()),
    )


def _language(record: ClipRecord) -> str:
    return record.language.rstrip("?") or "unknown"  # manifests mark a guess so


def _shares(records: Iterable[ClipRecord], by: Callable[[ClipRecord], str]) -> dict[str, Share]:
    groups: dict[str, list[ClipRecord]] = defaultdict(list)
    for record in records:
        groups[by(record)].append(record)
    shares = {
        name: Share(len(g), len({r.identity for r in g}), sum(r.duration for r in g) / 3600)
        for name, g in groups.items()
    }
    return dict(sorted(shares.items(), key=lambda item: (-item[1].clips, item[0])))


def write_report(folder: str | Path, records: Sequence[ClipRecord], *, seconds_taken: float | None = None) -> Path:
    """Write ``report.html`` into a dataset's folder: a single file that needs nothing else to be seen.

    Args:
        folder: the dataset; its shards must be there, its table need not.
        records: all rows of its table.
        seconds_taken: how long building it took.

    Returns:
        The file.

    Raises:
        DatasetError: when a clip in a shard is damaged.
        MissingDependencyError: when jinja2 is not installed.
    """
    folder = Path(folder)
    try:
        import jinja2
    except ImportError as error:
        raise MissingDependencyError(
            f"reports need jinja2, which cannot be imported ({error}); pip install 'magictalk[data]'"
        ) from error
    template = (files("magictalk") / "data" / "report.html.j2").read_text("utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    counted = statistics(records)
    page = environment.from_string(template).render(
        name=folder.absolute().name,
        statistics=counted,
        paper=PAPER,
        total=len(records),
        pace=seconds_taken / (60 * counted.raw_hours) if seconds_taken and counted.raw_hours else None,
        seconds_taken=seconds_taken,
        examples=_examples(records),
        histograms=histograms(records),
        conflicts=conflicts(records, read_embeddings(folder, records)),
        sheet=make_cards(folder, records),
        dropped=[r for r in records if not r.kept][:_LISTED],
    )
    part = folder / f".{REPORT}.part"
    part.write_text(page, "utf-8")
    return part.replace(folder / REPORT)


def _examples(records: Iterable[ClipRecord]) -> dict[tuple[str, str], list[str]]:
    """Up to three sources dropped for each stage and reason."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for record in records:
        if not record.kept and len(found[record.stage, record.reason]) < 3:
            found[record.stage, record.reason].append(record.source)
    return found


# histograms


@dataclass(frozen=True)
class Bar:
    """One bin: its range, and clips kept and dropped in it."""

    low: float
    high: float
    kept: int
    dropped: int


@dataclass(frozen=True)
class Histogram:
    """One column of the table.

    Attributes:
        title, unit, hint: what it is, and what to look for.
        bars: bins of equal width.
        ticks: round values along the axis, between the first bar's low and the last one's high.
        median: of kept clips.
        most: clips in the fullest bin.
    """

    title: str
    unit: str
    hint: str
    bars: tuple[Bar, ...]
    ticks: tuple[float, ...]
    median: float
    most: int


_COLUMNS = (
    ("duration", "Length", "s", "Most clips should be long; a pile at the left end is material cut to pieces."),
    ("face_px", "Width of the face in the raw video", "px",
     "Below half of the pictures' size a crop is enlarged: soft teeth and lashes."),
    ("sharpness", "Sharpness of the face (CPBD)", "", "A second hump at the left is another, softer camera."),
    ("brightness", "Brightness of the face", "", "Mean luma, 0 to 1; both ends are lost detail."),
    ("sync_score", "Lips against sound, at the best offset", "",
     "Cosine similarity of the lip-sync expert; near 0 the sound is not the lips'."),
    ("offset_s", "Offset of the sound as found", "s",
     "Should peak at 0; a second peak is a source whose sound was late, and has been moved."),
)  # fmt: skip


def histograms(records: Sequence[ClipRecord], bins: int = 24) -> list[Histogram]:
    """Histograms of the table's measured columns; a column that no kept clip has is left out."""
    found = []
    for column, title, unit, hint in _COLUMNS:
        kept, dropped = (_measured(records, column, status) for status in (True, False))
        if len(kept):
            step = _round_step(np.ptp([*kept, *dropped]) / 4)
            low = np.floor(min([*kept, *dropped]) / step) * step
            count = max(1, int(np.ceil((max([*kept, *dropped]) - low) / step - 1e-9)))
            edges = low + np.linspace(0, count * step, max(1, bins // count) * count + 1)
            pairs = zip(np.histogram(kept, edges)[0], np.histogram(dropped, edges)[0], strict=True)
            bars = tuple(
                Bar(float(a), float(b), int(k), int(d))
                for a, b, (k, d) in zip(edges[:-1], edges[1:], pairs, strict=True)
            )
            ticks = tuple(float(low + i * step) for i in range(count + 1))
            most = max(b.kept + b.dropped for b in bars)
            found.append(Histogram(title, unit, hint, bars, ticks, float(np.median(kept)), most))
    return found


def _measured(records: Iterable[ClipRecord], column: str, kept: bool) -> NDArray[np.float64]:
    values = np.array([getattr(r, column) for r in records if r.kept == kept], np.float64)
    return values[np.isfinite(values)]


def _round_step(step: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is no less; 1 for none."""
    if step <= 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(step))
    return float(next(m * power for m in (1, 2, 5, 10) if m * power >= step * (1 - 1e-9)))
