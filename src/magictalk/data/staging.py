"""The hidden folder in which a dataset grows: whatever is in it under its own name is whole.

``DATASET/.work/sources/KEY.json`` holds the clips into which a video was cut, ``.work/clips/KEY/`` what became of one
clip: ``record.json`` and, if it was kept, ``clip.mp4``, ``clip.wav`` and ``clip.npz``.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from magictalk.data.table import ClipRecord, as_json, from_json
from magictalk.errors import DatasetError

FILES = ("mp4", "wav", "npz")
"""What is stored of a kept clip beside its record."""


class Staging:
    """What is finished of a dataset that is being built.

    Args:
        dataset: the dataset's folder.
    """

    def __init__(self, dataset: Path) -> None:
        self.folder = dataset / ".work"
        self._sources, self._clips = self.folder / "sources", self.folder / "clips"

    def prepare(self) -> None:
        """Make the folders, and clear away what a broken run left unfinished."""
        for folder in (self._sources, self._clips):
            folder.mkdir(parents=True, exist_ok=True)
            for part in folder.glob(".*.part"):
                shutil.rmtree(part) if part.is_dir() else part.unlink()

    def has_plan(self, source: str) -> bool:
        """Whether a source was cut into clips."""
        return (self._sources / f"{source}.json").is_file()

    def plan(self, source: str) -> list[ClipRecord]:
        """The clips of a source that was cut."""
        return read_records(self._sources / f"{source}.json")

    def write_plan(self, source: str, clips: Sequence[ClipRecord]) -> None:
        """Keep the clips of a source."""
        write_records(self._sources / f"{source}.json", clips)

    def has(self, key: str) -> bool:
        """Whether a clip is finished, kept or dropped."""
        return self.clip(key).is_dir()

    def clip(self, key: str) -> Path:
        """The folder of a finished clip."""
        return self._clips / key

    def open(self, key: str) -> Path:
        """A new empty folder for a clip at hand; :meth:`close` makes it the clip's."""
        folder = self._clips / f".{key}.{os.getpid()}.part"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def close(self, folder: Path, record: ClipRecord) -> None:
        """Finish a clip: its record is written, files of a dropped one go, and the folder gets its name."""
        if not record.kept:
            for name in FILES:
                (folder / f"clip.{name}").unlink(missing_ok=True)
        (folder / "record.json").write_text(json.dumps(as_json(record)), "utf-8")
        folder.rename(self.clip(record.key))

    def record(self, key: str) -> ClipRecord:
        """What became of a finished clip."""
        return from_json(json.loads((self.clip(key) / "record.json").read_text("utf-8")))


@contextmanager
def writing(dataset: Path) -> Iterator[None]:
    """What keeps a dataset from being written, in one line.

    Raises:
        DatasetError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise DatasetError(f"{dataset} cannot be written ({reason}); mend that and run again") from error


def read_records(path: Path) -> list[ClipRecord]:
    """What :func:`write_records` wrote."""
    return [from_json(values) for values in json.loads(path.read_text("utf-8"))]


def write_records(path: Path, records: Sequence[ClipRecord]) -> None:
    """Records as JSON, whole or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_text(json.dumps([as_json(r) for r in records]), "utf-8")
    part.replace(path)
