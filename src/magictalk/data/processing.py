"""The two pieces of work that a dataset is made of: a video into clips, a clip through all stages.

Both keep their result in the dataset's hidden folder and depend on nothing but their argument and the settings, so
any process of any machine that sees the folder may do any of them, at any time, again.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magictalk.data import conform, stages
from magictalk.data.settings import Settings
from magictalk.data.sources import Source
from magictalk.data.stages import Crop, Dropped
from magictalk.data.staging import Staging, writing
from magictalk.data.table import ClipRecord
from magictalk.errors import DatasetError, MissingDependencyError, VideoError, WeightsError
from magictalk.speech import FPS
from magictalk.video import probe, read_frames

Array = NDArray[np.float32]


class SourceCutter:
    """Cuts one raw video into clips at its scene changes."""

    def __init__(self, settings: Settings, dataset: Path) -> None:
        self._settings, self._dataset, self._staging = settings, dataset, Staging(dataset)

    def __call__(self, source: Source) -> None:
        """Plan the clips of a video; one that cannot be read becomes one dropped clip.

        Raises:
            DatasetError: when this machine does not see the video or the dataset's folder, or cannot write there.
            MissingDependencyError: when PySceneDetect is not installed.
        """
        _check_seen(source.path, self._staging.folder)
        whole = source.record()
        try:
            clips = self._cut(source.path, source.key, whole)
        except MissingDependencyError:
            raise
        except VideoError as error:
            clips = [dropped(whole, "read", brief(error, source.path))]
        except Exception as error:  # whatever one file brings about, the others go on
            clips = [dropped(whole, "error", f"{type(error).__name__}: {brief(error, source.path)}")]
        with writing(self._dataset):
            self._staging.write_plan(source.key, clips)

    def _cut(self, path: Path, key: str, whole: ClipRecord) -> list[ClipRecord]:
        info = probe(path)
        whole = replace(whole, source_width=info.width, source_height=info.height, source_fps=info.fps)
        readable = _Readable(path)
        frames, cuts = stages.find_scenes(readable, self._settings)
        spans = stages.cut(frames, [c for c in cuts if c < frames], self._settings)
        records = [_span(replace(whole, key=f"{key}-{i:04d}"), *span) for i, span in enumerate(spans)]
        least = self._settings.shortest_s
        records = [r if r.duration >= least else dropped(r, "cut", f"shorter than {least:g} s") for r in records]
        if readable.problem:
            rest = replace(whole, key=f"{key}-{len(spans):04d}")
            records.append(dropped(_span(rest, frames, round(info.duration * FPS)), "read", readable.problem))
        return records


class _Readable:
    """Small copies of a video's frames, up to a second before it is damaged, if it is.

    Attributes:
        problem: after the last frame: what ended it, empty when it was whole.
    """

    def __init__(self, path: Path) -> None:
        self._path, self.problem = path, ""

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        waiting: list[NDArray[np.uint8]] = []
        try:
            for frame in read_frames(self._path, FPS):
                waiting.append(stages.shrink(frame))
                if len(waiting) > FPS:
                    yield waiting.pop(0)
        except VideoError as error:
            self.problem = brief(error, self._path)
            return
        yield from waiting


@dataclass(frozen=True)
class Clip:
    """A part of a raw video that is to go through the stages."""

    path: Path
    record: ClipRecord


class ClipProcessor:
    """Takes clips through all stages. Keeps the loaded networks; build one a process.

    Raises:
        MissingDependencyError, WeightsError: when a stage lacks what it needs.
    """

    def __init__(self, settings: Settings, dataset: Path) -> None:
        from magictalk.face.landmarks import FaceDetector, FaceTracker
        from magictalk.face.recognition import FaceRecogniser
        from magictalk.face.rig import Rig

        self._settings, self._dataset, self._staging = settings, dataset, Staging(dataset)
        self._detector = FaceDetector()
        self._tracker = FaceTracker(self._detector)
        self._recogniser, self._rig = FaceRecogniser(), Rig.load()
        self._assessor = None if settings.quality_model is None else load_assessor(Path(settings.quality_model))
        self._judge: Any = None
        if settings.sync == "expert":
            from magictalk.sync import SyncJudge

            self._judge = SyncJudge.load()
        elif settings.sync_model is not None:
            from magictalk.syncnet import SyncNetJudge

            self._judge = SyncNetJudge.load(settings.sync_model)

    def __call__(self, clip: Clip) -> None:
        """Take a clip through the stages and keep what became of it, unless that was done before.

        Raises:
            DatasetError: when this machine does not see the video or the dataset's folder, or cannot write there.
            MissingDependencyError, WeightsError: when a stage lacks what it needs.
        """
        _check_seen(clip.path, self._staging.folder)
        if self._staging.has(clip.record.key):
            return
        with writing(self._dataset):
            folder = self._staging.open(clip.record.key)
        known: dict[str, Any] = {}
        try:
            self._make(clip, folder, known)
            record = replace(clip.record, **known)
        except Dropped as verdict:
            record = dropped(replace(clip.record, **known), verdict.stage, verdict.reason)
        except (MissingDependencyError, WeightsError):
            raise
        except VideoError as error:
            record = dropped(replace(clip.record, **known), "read", brief(error, clip.path))
        except Exception as error:  # whatever one file brings about, the others go on
            if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
                raise DatasetError(f"no space left in {folder.parent}; free some and run it again") from error
            record = dropped(
                replace(clip.record, **known), "error", f"{type(error).__name__}: {brief(error, clip.path)}"
            )
        with writing(self._dataset):
            self._staging.close(folder, record)

    def _make(self, clip: Clip, folder: Path, known: dict[str, Any]) -> None:
        """Write the clip's files to ``folder``; what is found on the way joins ``known``, the record's fields."""
        settings, start = self._settings, clip.record.start
        track = stages.track_face(self._frames(clip), self._tracker, self._detector)
        frames = len(track.landmarks)
        known |= {"end": start + frames / FPS, "duration": frames / FPS, "face_px": track.face_px}
        stages.check_face(track, settings)
        embeddings = stages.embed(track, self._recogniser)
        stages.check_person(embeddings, settings)

        crop = stages.crop_head(track)
        known |= {"crop_x": float(crop.x), "crop_y": float(crop.y), "crop_side": float(crop.side)}

        known |= stages.measure_picture(track)
        if self._assessor is not None:
            known |= {"quality": stages.assess(track, self._assessor)}
        stages.check_picture(known, settings)

        samples = stages.read_sound(clip.path, start, frames)
        landmarks = crop.landmarks(track.landmarks, settings.size)
        fit = self._rig.fit_video(landmarks)
        offset_s = self._check_sync(clip, crop, landmarks, fit.coefficients, samples, known)
        if offset_s:
            samples = stages.read_sound(clip.path, start + offset_s, frames)
            known |= {"corrected": True}

        conform.write_video(folder / "clip.mp4", crop.apply(self._frames(clip), settings.size), settings.size, samples)
        conform.write_sound(folder / "clip.wav", samples)
        first = next(islice(crop.apply(self._frames(clip), settings.size), int(np.argmax(track.seen)), None))
        arrays = conform.annotate(landmarks, fit, embeddings.mean(0), first)
        np.savez_compressed(folder / "clip.npz", **arrays)

    def _check_sync(
        self, clip: Clip, crop: Crop, landmarks: Array, coefficients: Array, samples: Array, known: dict[str, Any]
    ) -> float:
        """Seconds by which the clip's sound is to be moved; what the judge found joins ``known``."""
        if self._settings.sync == "none":
            return 0.0
        if self._settings.sync == "syncnet":
            found = self._judge.of_frames(crop.apply(self._frames(clip), self._settings.size), landmarks, samples)
        else:
            found = self._judge.of_coefficients(coefficients, samples)
            known |= {"sync_score": found.score}
        known |= {"sync_distance": found.distance, "sync_confidence": found.confidence, "offset_s": found.offset_s}
        check = stages.check_syncnet if self._settings.sync == "syncnet" else stages.check_sync
        return check(found, self._settings)

    def _frames(self, clip: Clip) -> Iterator[NDArray[np.uint8]]:
        return read_frames(clip.path, FPS, clip.record.start, clip.record.duration)


def load_assessor(path: Path) -> Callable[[NDArray[np.float32]], float]:
    """A learned judge of picture quality: a TorchScript file, from RGB ``[1, 3, H, W]`` in 0..1 to one number.

    Raises:
        WeightsError: when the file is missing or is not TorchScript.
    """
    import torch

    if not path.is_file():
        raise WeightsError(f"no file at {path}; expected a quality model as TorchScript (torch.jit.save)")
    try:
        model = torch.jit.load(str(path), map_location="cpu").eval()
    except RuntimeError as error:
        raise WeightsError(f"{path} is not a TorchScript file; save the quality model with torch.jit.save") from error

    def assess(picture: NDArray[np.float32]) -> float:
        with torch.inference_mode():
            return float(model(torch.from_numpy(picture)[None]))

    return assess


def _check_seen(*paths: Path) -> None:
    for path in paths:
        if not os.path.exists(path):
            raise DatasetError(
                f"{path} is not to be seen on {socket.gethostname()}; every machine needs the same paths"
            )


def dropped(record: ClipRecord, stage: str, reason: str) -> ClipRecord:
    """The record of a clip that a stage turned down."""
    return replace(record, status="dropped", stage=stage, reason=reason)


def brief(error: Exception, path: Path) -> str:
    """What went wrong in a few words, without the file's place on this machine."""
    return str(error).split("; ")[0].replace(f"{path} ", "").replace(str(path), path.name)[:200]


def _span(record: ClipRecord, first: int, stop: int) -> ClipRecord:
    return replace(record, start=first / FPS, end=stop / FPS, duration=(stop - first) / FPS)
