"""A dataset from start to end: every kind of bad input, many workers or one, interrupted or not, here or on Ray."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import psutil
import pytest

from magictalk.data.build import build
from magictalk.data.dataset import Dataset
from magictalk.data.processing import Clip, ClipProcessor, SourceCutter
from magictalk.data.runners import LocalRunner, RayRunner
from magictalk.data.settings import Settings
from magictalk.data.sources import find_sources
from magictalk.data.staging import Staging
from magictalk.data.table import TABLE, as_json, read_table
from magictalk.errors import DatasetError, MissingDependencyError, WeightsError
from magictalk.video import read_frames

SETTINGS = Settings(size=64, sync="none", shard_mb=0.4)


def head(astronaut, t, speed=1.0):
    """A picture of 340 x 300 pixels in which the astronaut sways."""
    return np.ascontiguousarray(astronaut[:300, 60 + round(20 * np.sin(speed * t / 7)) :][:, :340])


def film(path, frames, times=None, sound=True, codec="libx264", pix_fmt="yuv420p", rotation=0):
    """Write frames at their times (25 fps by default) with a tone of the same length."""
    frames = list(frames)
    times = np.arange(len(frames)) / 25 if times is None else times
    with av.open(str(path), "w", options={"movflags": "+faststart"} if path.suffix == ".mp4" else {}) as out:
        picture = out.add_stream(codec, rate=25)
        picture.width, picture.height, picture.pix_fmt = frames[0].shape[1], frames[0].shape[0], pix_fmt
        picture.codec_context.time_base = Fraction(1, 1000)
        voice = out.add_stream("aac", rate=16000, layout="mono") if sound else None
        for time_s, frame in zip(times, frames, strict=True):
            shown = av.VideoFrame.from_ndarray(frame, format="rgb24")
            shown.pts, shown.time_base = round(time_s * 1000), Fraction(1, 1000)
            out.mux(picture.encode(shown))
        out.mux(picture.encode(None))
        if voice is not None:
            tone = np.sin(np.arange(round((times[-1] + 0.04) * 16000)) / 8).astype(np.float32)[None]
            block = av.AudioFrame.from_ndarray(0.3 * tone, format="fltp", layout="mono")
            block.sample_rate, block.pts, block.time_base = 16000, 0, Fraction(1, 16000)
            for part in (block, None):
                out.mux(voice.encode(part))
    if rotation:
        _rotate(path, rotation)


def _rotate(path, degrees):
    """Write a display matrix into an mp4's picture track, as phones do."""
    content = bytearray(path.read_bytes())
    track = content.index(b"tkhd")
    one, (a, b, c, d) = 1 << 16, {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[degrees]
    matrix = [a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30]
    content[track + 44 : track + 80] = b"".join(v.to_bytes(4, "big", signed=True) for v in matrix)
    path.write_bytes(content)


@pytest.fixture(scope="module")
def raw(astronaut, tmp_path_factory):
    """Three good videos."""
    folder = tmp_path_factory.mktemp("raw")
    for i in range(3):
        film(folder / f"talk {i}.mp4", (head(astronaut, t, 1 + i / 3) for t in range(52 + i)))
    return folder


def content(dataset):
    """What must be the same however it was made."""
    shards = {p.name: p.read_bytes() for p in sorted((dataset / "shards").iterdir())}
    return {**shards, "table": (dataset / TABLE).read_bytes(), "job": (dataset / "build.json").read_bytes()}


@pytest.fixture(scope="module")
def plain(raw, tmp_path_factory):
    """The dataset of the good videos, made in one go by one process."""
    dataset = tmp_path_factory.mktemp("plain") / "dataset"
    records = build(find_sources([raw]), dataset, SETTINGS, LocalRunner(1))
    assert all(r.kept for r in records)
    return dataset


def test_a_dataset_can_be_read_back(plain, raw, astronaut):
    dataset = Dataset(plain)
    assert len(dataset) == 3 and len({r.shard for r in dataset.records}) > 1
    assert sorted(p.name for p in plain.iterdir()) == ["build.json", TABLE, "report.html", "shards"]
    assert len({r.identity for r in dataset.records}) == 1  # one astronaut
    for i, sample in enumerate(sorted(dataset, key=lambda s: s.key)):
        assert sample.key == f"talk_{i}-0000" and sample.record.source == f"talk {i}.mp4"
        assert len(sample) == 52 + i and sample.samples.shape == ((52 + i) * 640,)
        assert sample.seen.all() and len(sample.motion) == 52 + i
        assert sample.contour.shape == (64, 64) and np.isfinite(sample.embedding).all()
        x, y, side = (int(v) for v in (sample.record.crop_x, sample.record.crop_y, sample.record.crop_side))
        for ours, theirs in zip(sample.frames(0, 5), read_frames(raw / f"talk {i}.mp4"), strict=False):
            there = theirs[y : y + side, x : x + side].mean((0, 1))
            assert ours.mean((0, 1)) == pytest.approx(there, abs=2)
    lips = sample.lip_box[0]
    assert 20 < lips[0] + lips[2] / 2 < 44 and 30 < lips[1] + lips[3] / 2 < 50


def test_a_finished_dataset_is_left_alone(plain, raw):
    before = {p: p.stat().st_mtime_ns for p in plain.rglob("*")}
    records = build(find_sources([raw]), plain, SETTINGS, LocalRunner(1))
    assert [as_json(r) for r in records] == [as_json(r) for r in read_table(plain / TABLE)]
    assert {p: p.stat().st_mtime_ns for p in plain.rglob("*")} == before


def test_more_workers_make_the_same_bytes(plain, raw, tmp_path):
    steps = []
    build(find_sources([raw]), tmp_path / "d", SETTINGS, LocalRunner(2), lambda *step: steps.append(step))
    assert content(tmp_path / "d") == content(plain)
    assert steps[:3] == [("finding scenes", i, 3) for i in (1, 2, 3)]
    assert steps[3:6] == [("processing clips", i, 3) for i in (1, 2, 3)] and steps[-1] == ("packing", 3, 3)


def test_ray_makes_the_same_bytes(plain, raw, tmp_path):
    pytest.importorskip("ray")
    with closing(RayRunner("local", 2)) as runner, closing(RayRunner("local", 2)):  # the second finds the first's
        build(find_sources([raw]), tmp_path / "d", SETTINGS, runner)
    assert content(tmp_path / "d") == content(plain)


def wait_for(pattern, folder, job):
    deadline = time.monotonic() + 60
    while not any(folder.glob(pattern)) and time.monotonic() < deadline and job.poll() is None:
        time.sleep(0.01)


@pytest.mark.parametrize("moment", [".work/clips/talk*/record.json", "shards/*.tar"])
def test_killed_at_any_point_it_goes_on_without_loss_or_doubles(plain, raw, tmp_path, moment):
    dataset = tmp_path / "d"
    command = [
        sys.executable, "-m", "magictalk.app.cli", "data", "build", str(raw), "-o", str(dataset), "--no-sync",
        "--no-manifest", "--size", "64", "--shard-mb", "0.4", "--workers", "2",
    ]  # fmt: skip
    job = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(moment, dataset, job)
    workers = psutil.Process(job.pid).children() if job.poll() is None else []
    job.kill()
    job.wait()
    psutil.wait_procs(workers, timeout=20)
    with pytest.raises(DatasetError, match=r"half built|no table"):
        Dataset(dataset)
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert again.stdout.rstrip().endswith(str(dataset)) and not (dataset / ".work").exists()
    assert content(dataset) == content(plain)


def test_interrupted_it_says_how_to_go_on(raw, tmp_path):
    command = [sys.executable, "-m", "magictalk.app.cli", "data", "build", str(raw), "-o", str(tmp_path / "d")]
    job = subprocess.Popen([*command, "--no-sync"], stderr=subprocess.PIPE, text=True, start_new_session=True)
    wait_for("build.json", tmp_path / "d", job)
    time.sleep(0.3)  # the workers are starting
    os.killpg(job.pid, signal.SIGINT)  # as a terminal does, to all of them
    errors = job.communicate(timeout=60)[1]
    assert job.returncode == 130 and errors.splitlines()[-1] == "stopped; the same command goes on where it was"
    assert "Traceback" not in errors


@pytest.fixture(scope="module")
def bad(astronaut, tmp_path_factory):
    """One video of each kind that may go wrong, and of each that must not."""
    folder = tmp_path_factory.mktemp("bad")
    heads = [head(astronaut, t) for t in range(55)]
    film(folder / "good.mp4", heads)
    film(folder / "audioless.mp4", heads, sound=False)
    film(folder / "faceless.mp4", [np.full((120, 160, 3), t, np.uint8) for t in range(55)])
    film(folder / "short.mp4", heads[:20])
    film(folder / "small.mp4", [h[::2, ::2] for h in heads])
    film(folder / "two.mp4", [np.concatenate([h, h], 1) for h in heads])
    film(folder / "ten_bit.mp4", heads, codec="libx265", pix_fmt="yuv420p10le")
    film(folder / "rotated.mp4", [np.ascontiguousarray(np.rot90(h, 1)) for h in heads], rotation=90)
    rng = np.random.default_rng(0)
    film(folder / "variable.mp4", heads, times=np.cumsum(rng.choice([0.02, 0.04, 0.08], 55)))
    (folder / "empty.mp4").touch()
    (folder / "noise.mp4").write_bytes(rng.bytes(5000))
    film(folder / "whole.mp4", [head(astronaut, t) for t in range(160)])
    content = (folder / "whole.mp4").read_bytes()
    (folder / "torn.mp4").write_bytes(content[: round(0.7 * len(content))])
    (folder / "whole.mp4").unlink()
    return folder


def test_bad_videos_are_listed_with_their_reason_and_stop_nobody(bad, tmp_path):
    records = build(find_sources([bad]), tmp_path / "d", SETTINGS, LocalRunner(2))
    found = {}
    for record in records:
        found.setdefault(Path(record.source).stem, []).append((record.status, record.stage, record.reason))
    kept = [("kept", "", "")]
    assert {name: rows for name, rows in found.items() if name not in ("empty", "noise", "torn")} == {
        "good": kept,
        "ten_bit": kept,
        "rotated": kept,
        "variable": kept,
        "audioless": [("dropped", "sound", "no sound")],
        "faceless": [("dropped", "face", "no face in sight")],
        "short": [("dropped", "cut", "shorter than 2 s")],
        "small": [("dropped", "quality", "face narrower than 80 px")],
        "two": [("dropped", "face", "several faces")],
    }
    assert found["empty"] == [("dropped", "read", "is empty")]
    assert found["noise"][0][:2] == ("dropped", "read") and str(bad) not in found["noise"][0][2]
    assert [row[:2] for row in found["torn"]] == [("kept", ""), ("dropped", "read")]  # what is whole of it is used
    by_name = {Path(s.record.source).stem: s for s in Dataset(tmp_path / "d")}
    assert by_name["rotated"].record.source_width == 340  # upright
    good, turned = by_name["good"].landmarks, by_name["rotated"].landmarks
    assert np.abs(good - turned)[..., :2].mean() < 1
    times = next(r for r in records if r.source == "variable.mp4")
    assert times.duration == len(by_name["variable"]) / 25 == pytest.approx(times.end - times.start)


def test_a_scene_change_parts_a_video_and_the_clips_keep_their_place(astronaut, tmp_path):
    """Where a clip lies in its source, in picture and sound alike, is seen by what it shows."""
    (tmp_path / "raw").mkdir()
    dark = astronaut // 2
    film(tmp_path / "raw" / "a.mp4", [head(astronaut if t < 60 else dark[:, ::-1], t) for t in range(120)])
    first, second = build(find_sources([tmp_path / "raw"]), tmp_path / "d", SETTINGS, LocalRunner(1))
    assert (first.start, first.end, second.start, second.end) == (0.0, 2.4, 2.4, 4.8)
    assert first.brightness > 1.7 * second.brightness
    one, two = Dataset(tmp_path / "d")
    assert len(one) == len(two) == 60
    phase = np.sin((np.arange(3000) + 2.4 * 16000) / 8)
    assert np.corrcoef(two.samples[:3000], phase)[0, 1] > 0.95


def test_memory_does_not_grow_with_the_length_of_a_video(astronaut, tmp_path):
    """And a clip near the end of a long one costs no more than one at its beginning."""
    (tmp_path / "raw").mkdir()
    turn = [head(astronaut, t) for t in range(44)]
    for name, seconds in (("short", 6), ("long", 60)):
        film(tmp_path / "raw" / f"{name}.mp4", (turn[t % 44] for t in range(25 * seconds)))
    peaks = {}
    for name in ("short", "long"):
        code = (
            "import resource; from pathlib import Path; from magictalk.data.processing import SourceCutter\n"
            "from magictalk.data.settings import Settings; from magictalk.data.sources import find_sources\n"
            "from magictalk.data.staging import Staging\n"
            f"Staging(Path({str(tmp_path / name)!r})).prepare()\n"
            f"(source,) = find_sources([Path({str(tmp_path / 'raw' / name)!r} + '.mp4')])\n"
            f"SourceCutter(Settings(longest_s=5.0), Path({str(tmp_path / name)!r}))(source)\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
        )
        peaks[name] = float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert peaks["long"] < peaks["short"] + 30  # MB; its frames would take 0.5 GB

    settings, staging = Settings(size=64, sync="none", longest_s=5.0), Staging(tmp_path / "long")
    clips = staging.plan("long")
    assert len(clips) == 12 and clips[-1].end == 60
    process = ClipProcessor(settings, tmp_path / "long")
    process(Clip(tmp_path / "raw" / "long.mp4", clips[-1]))
    assert staging.record(clips[-1].key).kept and staging.record(clips[-1].key).duration == 5


def test_a_clip_that_kills_its_worker_is_listed(raw, tmp_path):
    """Stood in for by a worker that dies before its second clip whenever that comes."""
    dataset = tmp_path / "d"
    code = (
        "import os, sys; from pathlib import Path\n"
        "from magictalk.data import build as building, processing\n"
        "from magictalk.data.runners import LocalRunner\n"
        "from magictalk.data.settings import Settings; from magictalk.data.sources import find_sources\n"
        "class Fragile(processing.ClipProcessor):\n"
        "    def __call__(self, clip):\n"
        "        os._exit(1) if clip.record.key.startswith('talk_1') else super().__call__(clip)\n"
        "building.ClipProcessor = Fragile\n"
        "if __name__ == '__main__':\n"
        f"    sources = find_sources([Path({str(raw)!r})])\n"
        f"    building.build(sources, Path({str(dataset)!r}), Settings(size=64, sync='none'), LocalRunner(2))\n"
    )
    (tmp_path / "job.py").write_text(code)
    subprocess.run([sys.executable, str(tmp_path / "job.py")], check=True, capture_output=True)
    statuses = {r.key: (r.status, r.stage) for r in read_table(dataset / TABLE)}
    assert statuses.pop("talk_1-0000") == ("dropped", "error")
    assert set(statuses.values()) == {("kept", "")} and len(statuses) == 2


def test_folders_that_hold_something_else(plain, raw, tmp_path):
    sources = find_sources([raw])
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match="is a file"):
        build(sources, tmp_path / "file", SETTINGS, LocalRunner(1))
    with pytest.raises(DatasetError, match="not empty and holds no dataset"):
        build(sources, tmp_path, SETTINGS, LocalRunner(1))
    copy = shutil.copytree(plain, tmp_path / "copy")
    with pytest.raises(DatasetError, match="begun with size 64, now 128"):
        build(sources, copy, Settings(size=128, sync="none", shard_mb=0.4), LocalRunner(1))
    with pytest.raises(DatasetError, match="begun with 3 videos, now 2"):
        build(sources[1:], copy, SETTINGS, LocalRunner(1))
    (copy / TABLE).unlink()
    with pytest.raises(DatasetError, match="begun with size 64, now 128"):
        build(sources, copy, Settings(size=128, sync="none", shard_mb=0.4), LocalRunner(1))
    (copy / "build.json").write_text("{")
    with pytest.raises(DatasetError, match="damaged"):
        build(sources, copy, SETTINGS, LocalRunner(1))


def test_what_a_stage_lacks_is_said_before_anything_is_written(raw, tmp_path):
    for settings in (
        Settings(sync="syncnet", sync_model=str(tmp_path / "none")),
        Settings(sync="none", quality_model=str(tmp_path / "none.pt")),
    ):
        with pytest.raises(WeightsError):
            build(find_sources([raw]), tmp_path / "d", settings, LocalRunner(1))
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("library", ["jinja2", "pyarrow", "scenedetect", "webdataset"])
def test_a_library_that_is_missing_is_named_before_anything_is_written(raw, tmp_path, monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingDependencyError, match=rf"{library}.*pip install 'magictalk\[data\]'"):
        build(find_sources([raw]), tmp_path / "d", SETTINGS, LocalRunner(1))
    assert not (tmp_path / "d").exists()


def test_what_a_stage_lacks_midway_is_not_blamed_on_the_video(raw, tmp_path, monkeypatch):
    staging, source = Staging(tmp_path / "d"), find_sources([raw])[0]
    staging.prepare()
    monkeypatch.setitem(sys.modules, "scenedetect.detectors", None)
    with pytest.raises(MissingDependencyError):
        SourceCutter(SETTINGS, tmp_path / "d")(source)
    assert not staging.has_plan(source.key)

    process = ClipProcessor(SETTINGS, tmp_path / "d")
    monkeypatch.setattr(process, "_make", raising(WeightsError("no weights")))
    with pytest.raises(WeightsError):
        process(Clip(source.path, source.record()))
    assert not staging.has(source.record().key)


def raising(error):
    def function(*_):
        raise error

    return function


def test_a_machine_that_does_not_see_the_videos_or_the_dataset_stops_the_job(raw, tmp_path):
    source, staging = find_sources([raw])[0], Staging(tmp_path / "d")
    cut, process = SourceCutter(SETTINGS, tmp_path / "d"), ClipProcessor(SETTINGS, tmp_path / "d")
    elsewhere = Path("/elsewhere/a.mp4")
    for _ in range(2):  # first the folder is missing, then the video
        with pytest.raises(DatasetError, match=r"is not to be seen on .*; every machine needs the same paths"):
            cut(replace(source, path=elsewhere))
        with pytest.raises(DatasetError, match="is not to be seen on"):
            process(Clip(elsewhere, source.record()))
        staging.prepare()
    assert not staging.has_plan(source.key) and not staging.has(source.record().key)


def test_a_dataset_that_cannot_be_read_or_written_is_told_in_one_line(plain, raw, tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "iterdir", raising(PermissionError(13, "Permission denied", "there")))
    with pytest.raises(DatasetError, match=r"there cannot be read \(Permission denied\)"):
        build(find_sources([raw]), plain, SETTINGS, LocalRunner(1))
    monkeypatch.undo()
    (tmp_path / "d" / ".work").mkdir(parents=True)
    (tmp_path / "d" / ".work" / "sources").touch()  # where a folder must be
    with pytest.raises(DatasetError, match=r"d cannot be written \(File exists\)"):
        build(find_sources([raw]), tmp_path / "d", SETTINGS, LocalRunner(1))


def test_a_learned_assessor_and_its_threshold(raw, tmp_path):
    import torch

    class Mean(torch.nn.Module):
        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            return pictures.mean((1, 2, 3))

    torch.jit.script(Mean()).save(str(tmp_path / "mean.pt"))
    settings = Settings(size=64, sync="none", quality_model=str(tmp_path / "mean.pt"), min_quality=0.99)
    staging = Staging(tmp_path / "d")
    staging.prepare()
    source = find_sources([raw])[0]
    SourceCutter(settings, tmp_path / "d")(source)
    (clip,) = staging.plan(source.key)
    ClipProcessor(settings, tmp_path / "d")(Clip(source.path, clip))
    record = staging.record(clip.key)
    assert (record.status, record.stage, record.reason) == ("dropped", "quality", "quality under 0.99")
    assert 0.2 < record.quality < 0.8 and not list(staging.clip(clip.key).glob("clip.*"))


def test_two_runs_do_not_build_in_one_folder(raw, tmp_path):
    import fcntl

    (tmp_path / "d" / ".work").mkdir(parents=True)
    with (tmp_path / "d" / ".work" / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(DatasetError, match="being built by another run"):
            build(find_sources([raw]), tmp_path / "d", SETTINGS, LocalRunner(1))
