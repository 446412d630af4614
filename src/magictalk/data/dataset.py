"""Read a dataset that ``magictalk data build`` made: clips one by one, in order or shuffled, as training takes them."""

from __future__ import annotations

import io
import tarfile
import wave
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any, cast
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from magictalk.data.table import TABLE, ClipRecord, read_table
from magictalk.errors import DatasetError, MissingDependencyError, MotionError
from magictalk.face.pose import Pose
from magictalk.motion import FPS, Motion
from magictalk.speech import RATE

WORK = ".work"
"""Folder inside a dataset that is there while it is being built."""
SHUFFLED_CLIPS = 64
"""Clips held in memory, a few MB each, from which a shuffled iteration draws."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One clip of ``T`` frames at 25 fps; pixels are those of the head crop, a square of ``S``.

    Attributes:
        record: its row of the table.
        video: the mp4 file; :meth:`frames` decodes it.
        samples: float32 ``[N]``, the sound at 16 kHz, -1..1; sample 0 belongs to frame 0.
        landmarks: float32 ``[T, 478, 3]``, the mesh in pixels.
        seen: bool ``[T]``, where the face was really tracked.
        motion: ARKit-52 coefficients and head motion, from the rig's fit.
        pose: where the head is in each frame.
        neutral: float32 ``[478, 3]``, the person's face at rest in face space.
        contour: bool ``[S, S]``, edges of head and face in the first frame that shows them.
        lip_box, expression_box: float32 ``[T, 4]``, x, y, width and height in pixels.
        embedding: float32 ``[128]`` for recognition, mean over the clip.
    """

    record: ClipRecord
    video: bytes = field(repr=False)
    samples: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    seen: NDArray[np.bool_]
    motion: Motion
    pose: Pose
    neutral: NDArray[np.float32]
    contour: NDArray[np.bool_]
    lip_box: NDArray[np.float32]
    expression_box: NDArray[np.float32]
    embedding: NDArray[np.float32]

    @property
    def key(self) -> str:
        """The clip's name."""
        return self.record.key

    def __len__(self) -> int:
        return len(self.landmarks)

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[NDArray[np.uint8]]:
        """Frames ``start`` to ``stop`` (the end by default) as uint8 RGB ``[S, S, 3]``, decoded one by one.

        Raises:
            DatasetError: while iterating, when the video is damaged.
        """
        import av
        from av.video.reformatter import Colorspace

        stop = len(self) if stop is None else min(stop, len(self))
        at = start
        try:
            with av.open(io.BytesIO(self.video)) as container:
                stream = container.streams.video[0]
                container.seek(int(start / FPS / stream.time_base), stream=stream)  # the key frame before it
                for frame in container.decode(stream):
                    if at >= stop:
                        return
                    if round(frame.time * FPS) >= at:
                        yield frame.reformat(format="rgb24", src_colorspace=Colorspace.ITU709).to_ndarray()
                        at += 1
        except (av.FFmpegError, IndexError) as error:
            raise DatasetError(f"the video of clip {self.key} is damaged ({error}); build the dataset again") from error
        if at < stop:
            raise DatasetError(f"the video of clip {self.key} ends at frame {at} of {stop}; build the dataset again")


class Dataset:
    """The kept clips of a dataset, or of one split of it.

    ``for sample in dataset`` gives them in the order of :attr:`records`; :meth:`pipeline` shuffles them.

    Args:
        folder: what ``magictalk data build`` wrote.
        split: such as ``"train"``; all by default.

    Attributes:
        records: rows of the table in the order of the shards.

    Raises:
        DatasetError: the folder is no dataset, is not finished, lacks a shard, or has no such split.
        MissingDependencyError: pyarrow is not installed.
    """

    def __init__(self, folder: str | Path, split: str | None = None) -> None:
        self.folder = Path(folder)
        self.split = split
        if not self.folder.is_dir():
            raise DatasetError(f"no folder at {folder}; expected a dataset made by magictalk data build")
        if (self.folder / WORK).exists():
            raise DatasetError(f"{folder} is only half built; run the same magictalk data build again to finish it")
        kept = [r for r in read_table(self.folder / TABLE) if r.kept]
        self.records = sorted((r for r in kept if split in (None, r.split)), key=lambda r: r.shard)
        if not self.records:
            there = ", ".join(sorted({r.split for r in kept})) or "no clip at all"
            raise DatasetError(f"{folder} has no clip {f'in split {split!r}' if split else 'in it'}; it has {there}")
        self._shards = _by_shard(self.records)
        for shard in self._shards:
            if not (self.folder / shard).is_file():
                raise DatasetError(f"{self.folder / shard} is missing; put it back or build the dataset again")

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.pipeline())

    def pipeline(self, seed: int | None = None) -> Any:
        """A ``webdataset`` pipeline of :class:`Sample`, which torch's ``DataLoader`` takes as a dataset.

        Each worker of a loader, and each process of a distributed job, reads shards of its own.

        Args:
            seed: shuffle shards and clips by it, anew each time the pipeline is iterated; by default nothing is.

        Raises:
            DatasetError: while iterating, when a shard is damaged or lacks a clip.
            MissingDependencyError: when webdataset is not installed.
        """
        try:
            import webdataset as wds
        except ImportError as error:
            raise MissingDependencyError(
                f"datasets need webdataset, which cannot be imported ({error}); pip install 'magictalk[data]'"
            ) from error
        # an absolute path is no URL, whatever is in it
        shards = [{"url": str((self.folder / shard).absolute()), "shard": shard} for shard in self._shards]
        stages = [partial(iter, shards), wds.split_by_node, wds.split_by_worker, self._read]
        if seed is not None:
            stages.insert(1, wds.detshuffle(len(shards), len(shards), seed))
            stages.append(wds.detshuffle(SHUFFLED_CLIPS, SHUFFLED_CLIPS, seed))
        return wds.DataPipeline(*stages, _decoded)

    def _read(self, shards: Iterator[dict[str, str]]) -> Iterator[tuple[ClipRecord, dict[str, bytes]]]:
        """Records and files by suffix of the clips in ``shards``."""
        from webdataset.tariterators import tarfile_samples

        for shard in shards:
            missing = {r.key: r for r in self._shards[shard["shard"]]}
            try:
                for files in tarfile_samples([dict(shard)]):
                    record = missing.pop(files["__key__"], None)
                    if record is not None:
                        yield record, files
            except (tarfile.TarError, OSError, EOFError, ValueError) as error:
                raise DatasetError(
                    f"{shard['url']} is damaged ({error.args[0] if error.args else error}); build the dataset again"
                ) from error
            if missing:
                raise DatasetError(
                    f"{shard['url']} lacks clip {min(missing)}, which the table names; build the dataset again"
                )


def read_samples(folder: Path, records: Iterable[ClipRecord]) -> Iterator[Sample]:
    """The kept ones of ``records``, shard by shard; only they are read of a shard. There need not be a table yet.

    Raises:
        DatasetError: while iterating, when a shard is missing or damaged, or lacks a clip.
    """
    for record, shard in _open_shards(folder, records):
        with _damage(record):
            files = {suffix: _member(shard, record, suffix).read() for suffix in ("mp4", "wav", "npz")}
        yield _decode(record, files)


def read_embeddings(folder: Path, records: Iterable[ClipRecord]) -> dict[str, NDArray[np.float32]]:
    """Recognition embeddings ``[128]`` of the kept ones of ``records`` by key; hardly more is read from the disk.

    Raises:
        DatasetError: when a shard is missing or damaged, or lacks a clip.
    """
    embeddings = {}
    for record, shard in _open_shards(folder, records):
        with _damage(record), np.load(_member(shard, record, "npz"), allow_pickle=False) as arrays:
            embeddings[record.key] = arrays["embedding"]
    return embeddings


def _open_shards(folder: Path, records: Iterable[ClipRecord]) -> Iterator[tuple[ClipRecord, tarfile.TarFile]]:
    for name, clips in _by_shard(r for r in records if r.kept).items():
        with ExitStack() as stack:
            with _damage(clips[0]):
                shard = stack.enter_context(tarfile.open(folder / name))
            for clip in clips:
                yield clip, shard


def _member(shard: tarfile.TarFile, record: ClipRecord, suffix: str) -> IO[bytes]:
    return cast(IO[bytes], shard.extractfile(f"{record.key}.{suffix}"))


def _by_shard(records: Iterable[ClipRecord]) -> dict[str, list[ClipRecord]]:
    shards: dict[str, list[ClipRecord]] = {}
    for record in records:
        shards.setdefault(record.shard, []).append(record)
    return shards


@contextmanager
def _damage(record: ClipRecord) -> Iterator[None]:
    """Whatever a damaged file makes the libraries say, as an error of ours."""
    try:
        yield
    except (KeyError, ValueError, OSError, EOFError, BadZipFile, tarfile.TarError, wave.Error, MotionError) as error:
        raise DatasetError(
            f"clip {record.key} in {record.shard} is damaged ({error}); build the dataset again"
        ) from error


def _decoded(clips: Iterator[tuple[ClipRecord, Mapping[str, bytes]]]) -> Iterator[Sample]:
    return (_decode(record, files) for record, files in clips)


def _decode(record: ClipRecord, files: Mapping[str, bytes]) -> Sample:
    """A clip from its files by suffix."""
    with _damage(record):
        return _sample(record, files)


def _sample(record: ClipRecord, files: Mapping[str, bytes]) -> Sample:
    with np.load(io.BytesIO(files["npz"]), allow_pickle=False) as data:
        arrays = {name: data[name] for name in data.files}
    pose = Pose(*(arrays[name].astype(np.float64) for name in ("rotation", "origin_px", "scale_px", "depth_px")))
    return Sample(
        record=record,
        video=files["mp4"],
        samples=_samples(files["wav"]),
        landmarks=arrays["landmarks"],
        seen=arrays["seen"],
        motion=Motion(arrays["coefficients"], arrays["head"], FPS),
        pose=pose,
        neutral=arrays["neutral"],
        contour=np.unpackbits(arrays["contour"], axis=1).astype(bool),
        lip_box=arrays["lip_box"],
        expression_box=arrays["expression_box"],
        embedding=arrays["embedding"],
    )


def _samples(wav: bytes) -> NDArray[np.float32]:
    """Sound ``[N]`` of a 16-bit mono WAV file at 16 kHz."""
    with wave.open(io.BytesIO(wav)) as file:
        form = (file.getnchannels(), file.getsampwidth(), file.getframerate())
        if form != (1, 2, RATE):
            raise ValueError(f"its wav has {form[0]} channels of {form[1]} bytes at {form[2]} Hz")
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32767
