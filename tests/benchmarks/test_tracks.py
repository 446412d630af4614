import csv
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from magictalk.errors import MotionError, VideoError

_SPEC = importlib.util.spec_from_file_location("tracks", Path(__file__).parents[2] / "benchmarks" / "tracks.py")
tracks = importlib.util.module_from_spec(_SPEC)
sys.modules["tracks"] = tracks
_SPEC.loader.exec_module(tracks)


def _npz(path: Path, times: np.ndarray, landmarks: np.ndarray, seconds: float, start: float = 0.0) -> Path:
    audio = np.arange(round(seconds * 16000)).astype(np.int16)
    np.savez(path, times=times, landmarks=landmarks.astype(np.float32), audio=audio, audio_start=start)
    return path


def _moving(times: np.ndarray) -> np.ndarray:
    """Every point at 100 px per second."""
    return np.broadcast_to(100 * times[:, None, None], (len(times), 478, 3)).copy()


def test_any_frame_rate_lands_on_the_grid(tmp_path: Path) -> None:
    times = np.arange(60) / 29.97
    clip = tracks.load(_npz(tmp_path / "a.mp4.npz", times, _moving(times), 1.6))
    assert clip.name == "a.mp4"
    assert clip.landmarks.shape == (40, 478, 3) and clip.seen.all()
    assert np.allclose(clip.landmarks[:, 0, 0], 100 * np.arange(40) / 25, atol=1e-3)


def test_a_face_out_of_sight_is_bridged_and_marked(tmp_path: Path) -> None:
    times = np.arange(50) / 25
    landmarks = _moving(times)
    landmarks[20:30] = np.nan
    clip = tracks.load(_npz(tmp_path / "b.npz", times, landmarks, 2.4))
    assert np.allclose(clip.landmarks[:50, 5, 1], 100 * times, atol=1e-3)
    assert np.flatnonzero(~clip.seen).tolist() == [*range(20, 30), *range(50, 60)]


@pytest.mark.parametrize("start", [0.25, -0.25])
def test_sound_that_starts_elsewhere_is_moved_to_the_frames_clock(tmp_path: Path, start: float) -> None:
    times = np.arange(50) / 25
    clip = tracks.load(_npz(tmp_path / "c.npz", times, _moving(times), 1.5, start))
    first = np.flatnonzero(clip.samples)[0] - 1  # sample 0 of the ramp is 0
    assert first == (4000 if start > 0 else -1 + 0)
    assert len(clip.samples) == 24000 + round(start * 16000)


def test_no_face_and_no_sound_are_refused(tmp_path: Path) -> None:
    times = np.arange(50) / 25
    with pytest.raises(MotionError, match="0 frames with a face"):
        tracks.load(_npz(tmp_path / "d.npz", times, np.full((50, 478, 3), np.nan), 2.0))
    with pytest.raises(MotionError, match="0 of sound"):
        tracks.load(_npz(tmp_path / "e.npz", times, _moving(times), 0.0))


def test_the_manifest_says_what_is_known(tmp_path: Path) -> None:
    fields = ["kind", "file", "split", "licence_class", "identity", "sync"]
    rows = [
        ["video", "videos/a.mp4", "train", "open", "ann", "offset(-0.12s)"],
        ["video", "videos/demo2show__sample_2_separated.mp4", "test", "web", "man", "ok"],
        ["speech", "speech/b.wav", "", "", "", ""],
    ]
    with (tmp_path / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([fields, *rows])
    entries = tracks.read_manifest(tmp_path)
    assert [(e.path.name, e.offset_s) for e in entries] == [
        ("a.mp4", -0.12),
        ("demo2show__sample_2_separated.mp4", -0.2),
    ]
    with pytest.raises(VideoError, match=r"manifest\.csv"):
        tracks.read_manifest(tmp_path / "nowhere")


def test_a_real_video_is_tracked(shared: Path, tmp_path: Path) -> None:
    entry = min(
        (e for e in tracks.read_manifest(shared) if e.split == "train" and "celebvdub" in e.path.name),
        key=lambda e: e.path.stat().st_size,
    )
    out = tracks.track_path(entry, tmp_path)
    tracks.track(entry.path, out)
    clip = tracks.load(out)
    assert clip.seen.mean() > 0.9
    assert len(clip.landmarks) == round(len(clip.samples) / 640)
    assert [p.name for p in tmp_path.iterdir()] == [out.name]
    with pytest.raises(VideoError):
        tracks.track(Path(__file__), tmp_path / "x.npz")
