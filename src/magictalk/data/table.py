"""The table of a dataset: one row a clip, kept or dropped, as Parquet."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path

from magictalk.errors import DatasetError, MissingDependencyError

TABLE = "clips.parquet"
"""Name of the table in a dataset's folder."""


@dataclass(frozen=True)
class ClipRecord:
    """What is known of one clip. Numbers that were not measured are NaN, words that are not known are empty.

    Attributes:
        key: name of the clip in shards: unique, made of its source's name and number.
        source: path of the raw video, relative to the folder given.
        start, end: seconds of the source.
        status: ``"kept"`` or ``"dropped"``.
        stage: which stage dropped it.
        reason: why, in a few words.
        identity: who is seen.
        split: ``"train"``, ``"val"``, ``"test"``, or what the manifest says.
        language: code such as ``"en"``.
        licence: the manifest's class, such as ``"open"``.
        duration: seconds.
        source_width, source_height, source_fps: of the raw video, as displayed.
        crop_x, crop_y, crop_side: the square head crop in pixels of the source.
        face_px: width of the face in the source, pixels, median.
        sharpness: CPBD of the face, 0..1, median.
        brightness: mean luma of the face, 0..1.
        quality: a learned assessor's score, where one was given.
        sync_score: mean cosine similarity of sound and lips at the best offset, -1..1.
        sync_distance, sync_confidence: Sync-D and Sync-C (magictalk), or LSE-D and LSE-C where SyncNet judged.
        offset_s: the mouth at t matched the sound at t + this, before any correction.
        corrected: whether the sound was moved by it.
        shard: file that holds the clip.
    """

    key: str
    source: str
    start: float = 0.0
    end: float = 0.0
    status: str = "kept"
    stage: str = ""
    reason: str = ""
    identity: str = ""
    split: str = ""
    language: str = ""
    licence: str = ""
    duration: float = 0.0
    source_width: int = 0
    source_height: int = 0
    source_fps: float = float("nan")
    crop_x: float = float("nan")
    crop_y: float = float("nan")
    crop_side: float = float("nan")
    face_px: float = float("nan")
    sharpness: float = float("nan")
    brightness: float = float("nan")
    quality: float = float("nan")
    sync_score: float = float("nan")
    sync_distance: float = float("nan")
    sync_confidence: float = float("nan")
    offset_s: float = float("nan")
    corrected: bool = False
    shard: str = ""

    @property
    def kept(self) -> bool:
        """Whether the clip is in the dataset."""
        return self.status == "kept"


def write_table(records: list[ClipRecord], path: Path) -> None:
    """Write rows as Parquet, whole or not at all.

    Raises:
        MissingDependencyError: when pyarrow is not installed.
    """
    arrow, parquet = _pyarrow()
    columns = {f.name: [getattr(r, f.name) for r in records] for f in fields(ClipRecord)}
    types = {"str": arrow.string(), "float": arrow.float64(), "int": arrow.int64(), "bool": arrow.bool_()}
    schema = arrow.schema([(f.name, types[str(f.type)]) for f in fields(ClipRecord)])
    part = path.with_name(f".{path.name}.part")
    parquet.write_table(arrow.table(columns, schema=schema), part)
    part.replace(path)


def read_table(path: Path) -> list[ClipRecord]:
    """The rows of a table written by :func:`write_table`.

    Raises:
        DatasetError: when there is none, or it is not such a table.
        MissingDependencyError: when pyarrow is not installed.
    """
    arrow, parquet = _pyarrow()
    if not path.is_file():
        raise DatasetError(f"no table at {path}; expected a folder made by magictalk data build, run to its end")
    try:
        rows = parquet.read_table(path).to_pylist()
        return [ClipRecord(**row) for row in rows]
    except (arrow.ArrowException, OSError, TypeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise DatasetError(f"{path} is not a table of clips ({reason}); build the dataset again") from error


def as_json(record: ClipRecord) -> dict[str, object]:
    """A record's fields for a JSON file; NaN becomes None."""
    return {k: None if isinstance(v, float) and v != v else v for k, v in asdict(record).items()}


def from_json(values: dict[str, object]) -> ClipRecord:
    """The record that :func:`as_json` wrote."""
    return ClipRecord(**{k: float("nan") if v is None else v for k, v in values.items()})  # type: ignore[arg-type]


def _pyarrow():  # type: ignore[no-untyped-def]
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingDependencyError(
            f"datasets need pyarrow, which cannot be imported ({error}); pip install 'magictalk[data]'"
        ) from error
    return pyarrow, pyarrow.parquet
