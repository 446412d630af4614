"""Video files: what is written can be read, is marked, is whole or absent, and goes on after a crash."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from magictalk.errors import OptionError, VideoError
from magictalk.video import Sound, VideoWriter, label, probe, read_frames

SOURCE = Path(__file__).resolve().parents[1] / "src"


def numbered(k, height=64, width=96):
    """A grey picture that carries its number as eight wide black or white bars."""
    frame = np.full((height, width, 3), 128, np.uint8)
    for bit in range(8):
        frame[8:-8, bit * width // 8 : (bit + 1) * width // 8] = 235 if k >> bit & 1 else 16
    return frame


def number(frame):
    width = frame.shape[1]
    return sum(int(frame[frame.shape[0] // 2, (2 * b + 1) * width // 16].mean() > 128) << b for b in range(8))


def beeps(seconds, rate, channels=1):
    """A tone in the second half of each second."""
    t = np.arange(round(seconds * rate)) / rate
    wave = (0.4 * np.sin(2 * np.pi * 400 * t) * (t % 1 >= 0.5)).astype(np.float32)
    return np.repeat(wave[:, None], channels, 1)


def sound(seconds, rate=44100, layout="mono", copy_from=None):
    samples = beeps(seconds, rate, av.AudioLayout(layout).nb_channels)
    return Sound(rate, layout, lambda: iter(np.array_split(samples, 7)), copy_from)


def heard(path):
    """Mono samples and rate of a file's sound, decoded by PyAV alone, placed by their time stamps."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        convert = av.AudioResampler("flt", "mono", stream.rate)
        out = np.zeros(stream.rate * 60, np.float32)
        end = 0
        for frame in container.decode(stream):
            start = round(frame.time * stream.rate)
            for part in convert.resample(frame):
                block = part.to_ndarray()[0]
                out[start : start + len(block)] = block
                end = start + len(block)
    return out[:end], stream.rate


def onsets(samples, rate):
    """Seconds at which silence turns to sound."""
    loud = np.abs(samples) > 0.05
    gap = round(0.2 * rate)
    return [i / rate for i in np.flatnonzero(loud) if not loud[max(0, i - gap) : i].any()]


def write(path, count, *, make=numbered, **options):
    with VideoWriter(path, **options) as writer:
        for k in range(writer.done_frames, count):
            writer.write(make(k))
    return path


def leftovers(folder):
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
@pytest.mark.parametrize("segment_seconds", [20, 0.4])
def test_frames_come_back_in_order_with_their_sound(tmp_path, suffix, segment_seconds):
    path = write(tmp_path / f"a{suffix}", 52, sound=sound(52 / 25), segment_seconds=segment_seconds)
    frames = list(read_frames(path))
    assert [number(f) for f in frames] == list(range(52))
    assert np.abs(frames[5].astype(int) - numbered(5)).mean() < 4
    info = probe(path)
    assert (info.width, info.height, info.has_audio) == (96, 64, True)
    assert info.fps == pytest.approx(25, abs=0.01)
    assert info.duration == pytest.approx(52 / 25, abs=0.05)
    samples, rate = heard(path)
    assert len(samples) / rate == pytest.approx(52 / 25, abs=1024 / rate + 0.01)
    assert onsets(samples, rate) == pytest.approx([0.5, 1.5], abs=0.012)
    assert leftovers(tmp_path) == [path.name]
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        times = [p.pts * video.time_base for p in container.demux(video) if p.pts is not None]
        assert [round(t * 25) for t in sorted(times)] == list(range(52))


@pytest.mark.parametrize("fps", [25, 24, 30, 30000 / 1001, 60])
def test_frame_rates(tmp_path, fps):
    path = write(tmp_path / "a.mp4", 41, fps=fps, segment_seconds=0.5)
    with av.open(str(path)) as container:
        assert float(container.streams.video[0].average_rate) == pytest.approx(fps)
    assert [number(f) for f in read_frames(path, fps=fps)] == list(range(41))


@pytest.mark.parametrize(("height", "width"), [(63, 95), (2, 2), (1, 1), (64, 33)])
def test_odd_sizes_are_padded_by_the_edge_never_scaled(tmp_path, height, width):
    picture = np.random.default_rng(0).integers(60, 200, (1, 1, 3), np.uint8).repeat(height, 0).repeat(width, 1)
    picture[:, width // 2 :] = 30
    frame = next(read_frames(write(tmp_path / "a.mp4", 3, make=lambda k: picture)))
    assert frame.shape == (height + height % 2, width + width % 2, 3)
    if width > 8:
        assert np.abs(frame[:height, :width].astype(int) - picture).mean() < 3
        assert np.abs(frame[-1].astype(int) - frame[-2]).max() < 6


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
@pytest.mark.parametrize("size", [(64, 64), (720, 1280)])
def test_colours_survive(tmp_path, suffix, size):
    colours = [(200, 30, 40), (20, 180, 60), (30, 60, 220), (224, 172, 140), (90, 60, 40), (255, 255, 255), (0, 0, 0)]
    flat = [np.full((*size, 3), c, np.uint8) for c in colours]
    frames = list(read_frames(write(tmp_path / f"c{suffix}", len(flat), make=lambda k: flat[k])))
    for frame, colour in zip(frames, colours, strict=True):
        assert np.abs(frame.reshape(-1, 3).mean(0) - colour).mean() < 3
    with av.open(str(tmp_path / f"c{suffix}")) as container:
        picture = next(container.decode(video=0))
        assert (picture.colorspace, picture.color_range) == (1, 1)
        assert picture.format.name == "yuv420p"


def test_files_say_that_they_are_synthetic(tmp_path):
    for name in ("a.mp4", "a.webm"):
        with av.open(str(write(tmp_path / name, 2))) as container:
            tags = {k.lower(): v for k, v in container.metadata.items()}
        assert tags["comment"].startswith("AI-generated by MagicTalk")
        assert "not a recording" in tags["description"]


def test_mp4_starts_at_once_in_a_browser(tmp_path):
    content = write(tmp_path / "a.mp4", 5, sound=sound(0.2)).read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    assert b"avc1" in content


@pytest.mark.parametrize("layout", ["mono", "stereo", "5.1", "7.1", "quad", "3 channels", "16 channels"])
@pytest.mark.parametrize("rate", [8000, 48000, 192000])
def test_any_rate_and_channels_are_heard(tmp_path, layout, rate):
    for suffix in (".mp4", ".webm"):
        path = write(tmp_path / f"a{suffix}", 25, sound=sound(1, rate, layout))
        samples, heard_rate = heard(path)
        assert onsets(samples, heard_rate) == pytest.approx([0.5], abs=0.012)


def _aac(path, seconds):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="stereo")
        wave = beeps(seconds, 44100, 2)
        frame = av.AudioFrame.from_ndarray(wave.reshape(1, -1), format="flt", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 44100, 0, Fraction(1, 44100)
        convert = av.AudioResampler("fltp", "stereo", 44100, frame_size=1024)
        for part in convert.resample(frame) + convert.resample(None):
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return path


def _packets(path):
    with av.open(str(path)) as container:
        return [bytes(p) for p in container.demux(audio=0) if p.size]


@pytest.mark.parametrize("name", ["voice.m4a", "voice.aac"])
def test_aac_is_copied_packet_by_packet_and_stays_in_time(tmp_path, name):
    source = _aac(tmp_path / name, 3)
    path = write(tmp_path / "a.mp4", 75, sound=sound(3, 44100, "stereo", copy_from=source), segment_seconds=1)
    header = 7 if name == "voice.aac" else 0  # an .aac file repeats a header before each packet
    assert _packets(path) == [p[header:] for p in _packets(source)][: len(_packets(path))]
    assert len(_packets(path)) >= len(_packets(source)) - 2
    ours, rate = heard(path)
    assert onsets(ours, rate) == pytest.approx(onsets(*heard(source)), abs=0.002)
    short = write(tmp_path / "short.mp4", 30, sound=sound(3, 44100, "stereo", copy_from=source))
    assert probe(short).duration == pytest.approx(1.2, abs=0.05)


def test_sound_is_cut_to_the_picture(tmp_path):
    path = write(tmp_path / "a.mp4", 25, sound=sound(9))
    assert len(heard(path)[0]) / 44100 == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("name", ['it\'s "100%" d%d «ü».mp4', "12:30 http:x.mp4", "SHOUT.MP4", "-dash.webm"])
def test_odd_names(tmp_path, name):
    path = write(tmp_path / name, 3, sound=sound(0.12))
    assert len(list(read_frames(path))) == 3
    assert leftovers(tmp_path) == [name]


def test_png_pictures_with_a_wav(tmp_path):
    write(tmp_path / "shot", 4, sound=sound(0.16, 96000, "5.1"))
    assert leftovers(tmp_path) == ["shot", "shot.wav"]
    assert leftovers(tmp_path / "shot") == [f"{k:05d}.png" for k in range(4)]
    from PIL import Image

    with Image.open(tmp_path / "shot" / "00003.png") as image:
        assert np.array_equal(np.asarray(image), numbered(3))
        assert image.text["Comment"].startswith("AI-generated")
    samples, rate = heard(tmp_path / "shot.wav")
    assert rate == 96000
    assert len(samples) == round(0.16 * 96000)
    write(tmp_path / "face_%03d.png", 2, sound=sound(0.08, 16000, "16 channels"))
    assert {"face_000.png", "face_001.png", "face.wav"} <= set(leftovers(tmp_path))
    with pytest.raises(VideoError, match=r"face.wav exists.*--overwrite"):
        VideoWriter(tmp_path / "face_%03d.png")
    write(tmp_path / "face_%03d.png", 1, overwrite=True)
    assert leftovers(tmp_path) == ["face_000.png", "shot", "shot.wav"]
    with pytest.raises(VideoError, match="no place for one number"):
        VideoWriter(tmp_path / "face.png")


def test_places_that_cannot_be_written(tmp_path):
    write(tmp_path / "there.mp4", 1)
    before = (tmp_path / "there.mp4").read_bytes()
    for name, message in [
        ("there.mp4", r"there.mp4 exists.*--overwrite"),
        ("none/a.mp4", "no folder at"),
        ("a.avi", r"cannot write .*a.avi; expected a name in .mp4 or .webm, a folder"),
        ("there.mp4/a.mp4", "no folder at"),
    ]:
        with pytest.raises(VideoError, match=message):
            VideoWriter(tmp_path / name)
    (tmp_path / "dir.mp4").mkdir()
    with pytest.raises(VideoError, match="is a folder"):
        VideoWriter(tmp_path / "dir.mp4", overwrite=True)
    with pytest.raises(VideoError, match="cannot be written"), VideoWriter(tmp_path / ("x" * 250 + ".mp4")):
        pass
    with pytest.raises(OptionError, match="fps is 0"):
        VideoWriter(tmp_path / "a.mp4", fps=0)
    assert (tmp_path / "there.mp4").read_bytes() == before
    write(tmp_path / "there.mp4", 2, overwrite=True)
    assert len(list(read_frames(tmp_path / "there.mp4"))) == 2
    assert leftovers(tmp_path) == ["dir.mp4", "there.mp4"]


def test_a_folder_that_may_not_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    with pytest.raises(VideoError, match="check its permissions"):
        VideoWriter(tmp_path / "a.mp4")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a file system that nobody may write to")
def test_a_folder_that_nobody_may_write(tmp_path):
    with pytest.raises(VideoError, match=r"cannot be written|check its permissions"), VideoWriter("/proc/self/a.mp4"):
        pass


def test_wrong_frames_are_refused_and_leave_nothing(tmp_path):
    for frames, message in [
        ([np.zeros((4, 4), np.uint8)], "expected uint8"),
        ([np.zeros((4, 4, 3), np.float32)], "expected uint8"),
        ([numbered(0), np.zeros((4, 4, 3), np.uint8)], "keep one size"),
        ([], "no frame was written"),
    ]:
        with pytest.raises(VideoError, match=message), VideoWriter(tmp_path / "a.mp4") as writer:
            for frame in frames:
                writer.write(frame)
        assert leftovers(tmp_path) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_broken_job_keeps_whole_segments_only(tmp_path, error):
    def broken(at):
        with pytest.raises(error), VideoWriter(tmp_path / "a.mp4", segment_seconds=1) as writer:
            for k in range(at):
                writer.write(numbered(k))
            raise error
        return writer

    assert broken(5).resume_hint is None
    assert leftovers(tmp_path) == []
    hint = broken(90).resume_hint
    assert hint is not None
    assert "--resume" in hint
    assert leftovers(tmp_path) == [".a.mp4.parts"]
    with pytest.raises(VideoError, match="segment_frames was 25, now 50"):
        VideoWriter(tmp_path / "a.mp4", segment_seconds=2, resume=True)
    with VideoWriter(tmp_path / "a.mp4", segment_seconds=1, resume=True) as writer:
        assert writer.done_frames in (50, 75)
        for k in range(writer.done_frames, 95):
            writer.write(numbered(k))
    assert [number(f) for f in read_frames(tmp_path / "a.mp4")] == list(range(95))
    assert leftovers(tmp_path) == ["a.mp4"]


CRASH = """
    import os, signal, sys
    sys.path[:0] = [{source!r}, {tests!r}]
    from test_video import numbered, sound
    from magictalk.video import VideoWriter
    with VideoWriter({path!r}, sound=sound(4), segment_seconds=1, fingerprint={{"seed": "1"}}) as writer:
        for k in range(100):
            if k == 70:
                while writer.frames < 50:
                    pass
                os.kill(os.getpid(), signal.SIGKILL)
            writer.write(numbered(k))
"""


@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "shot"])
def test_a_job_killed_midway_goes_on_to_the_same_frames(tmp_path, name):
    code = CRASH.format(source=str(SOURCE), tests=str(Path(__file__).parent), path=str(tmp_path / name))
    crashed = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert crashed.returncode == -signal.SIGKILL, crashed.stderr
    assert leftovers(tmp_path) == [f".{name}.parts"]
    options = {"sound": sound(4), "segment_seconds": 1, "resume": True}
    with pytest.raises(VideoError, match=r"cannot resume .*: seed was 1, now 2"):
        VideoWriter(tmp_path / name, fingerprint={"seed": "2"}, **options)
    with VideoWriter(tmp_path / name, fingerprint={"seed": "1"}, **options) as writer:
        assert 50 <= writer.done_frames <= 70
        for k in range(writer.done_frames, 100):
            writer.write(numbered(k))
    (tmp_path / "whole").mkdir()
    unbroken = write(tmp_path / "whole" / name, 100, sound=sound(4), segment_seconds=1)
    if name == "shot":
        for k in range(100):
            file = f"{k:05d}.png"
            assert (tmp_path / name / file).read_bytes() == (unbroken / file).read_bytes()
    else:
        resumed = list(read_frames(tmp_path / name))
        assert [number(frame) for frame in resumed] == list(range(100))
        apart = [np.abs(a.astype(int) - b).mean() for a, b in zip(resumed, read_frames(unbroken), strict=True)]
        assert max(apart) < 1  # of 255: encoders of two processes have once been seen to round differently
        assert np.array_equal(heard(tmp_path / name)[0], heard(unbroken)[0])
    assert f".{name}.parts" not in leftovers(tmp_path)


def test_resume_without_a_broken_job_begins_anew_and_a_new_job_clears_an_old(tmp_path):
    assert len(list(read_frames(write(tmp_path / "a.mp4", 3, resume=True)))) == 3
    work = tmp_path / ".b.mp4.parts"
    work.mkdir()
    (work / "job.json").write_text("{")
    with pytest.raises(VideoError, match="without --resume"):
        VideoWriter(tmp_path / "b.mp4", resume=True)
    (work / "job.json").write_text(json.dumps({"fps": "25"}))
    write(tmp_path / "b.mp4", 3)
    assert leftovers(tmp_path) == ["a.mp4", "b.mp4"]
    (tmp_path / ".c.mp4.parts").mkdir()
    (tmp_path / ".c.mp4.parts" / "diary.txt").touch()
    with pytest.raises(VideoError, match="is in the way"), VideoWriter(tmp_path / "c.mp4"):
        pass


FULL = """
    import resource, sys
    sys.path[:0] = [{source!r}]
    import numpy as np
    from magictalk.errors import VideoError
    from magictalk.video import VideoWriter
    resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
    noise = np.random.default_rng(0)
    try:
        with VideoWriter({path!r}) as writer:
            for k in range(60):
                writer.write(noise.integers(0, 255, (128, 128, 3), np.uint8))
    except VideoError as error:
        print(error)
        sys.exit(2)
"""


@pytest.mark.parametrize(
    ("name", "limit"), [("a.mp4", 1000), ("a.mp4", 200_000), ("a.webm", 1000), ("a.webm", 200_000), ("shot", 1000)]
)
def test_a_full_disk_is_told_and_leaves_nothing(tmp_path, name, limit):
    code = FULL.format(source=str(SOURCE), path=str(tmp_path / name), limit=limit)
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stdout.strip()) == (
        2,
        f"no space left for {tmp_path / name}; free some, or write elsewhere",
    )
    assert leftovers(tmp_path) == []


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="needs to mount a small disk")
@pytest.mark.parametrize("kilobytes", [64, 400, 1000])
def test_a_disk_that_is_really_full(tmp_path, kilobytes):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", disk], capture_output=True
    ).returncode:
        pytest.skip("may not mount")
    noise = np.random.default_rng(0)
    try:
        with pytest.raises(VideoError, match="no space left"):
            write(disk / "a.mp4", 60, make=lambda k: noise.integers(0, 255, (128, 128, 3), np.uint8), sound=sound(2.4))
        assert leftovers(disk) == []
    finally:
        subprocess.run(["umount", disk], check=True)


# reading


def film(path, times, *, rate=1000, pix_fmt="yuv420p", size=(64, 96), codec="libx264", aspect=None):
    """A film of numbered frames at any times, in thousandths of a second, made by PyAV alone."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, width=size[1], height=size[0], pix_fmt=pix_fmt)
        stream.codec_context.time_base = stream.time_base = Fraction(1, rate)
        if aspect:
            stream.sample_aspect_ratio = stream.codec_context.sample_aspect_ratio = aspect
        for k, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(numbered(k, *size), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_any_rate_is_read_onto_the_grid(tmp_path):
    thirty = film(tmp_path / "a.mp4", [round(k * 1000 / 30) for k in range(90)])
    shown = [number(f) for f in read_frames(thirty)]
    assert len(shown) == 75
    assert all(abs(s / 30 - k / 25) <= 1 / 60 + 1e-3 for k, s in enumerate(shown))
    slow = film(tmp_path / "b.mp4", [100 * k for k in range(20)])
    assert len(list(read_frames(slow))) == 50
    assert probe(thirty).fps == pytest.approx(30, abs=0.1)


def test_irregular_times_show_the_nearest_frame(tmp_path):
    times = np.cumsum(np.r_[0, np.random.default_rng(3).integers(5, 200, 60)])
    shown = [number(f) for f in read_frames(film(tmp_path / "a.mkv", times.tolist()))]
    assert len(shown) == pytest.approx(times[-1] / 40, abs=4)
    for k, s in enumerate(shown[:-4]):
        assert abs(times[s] - 40 * k) <= np.abs(times - 40 * k).min() + 2


def test_a_part_of_a_film(tmp_path):
    path = film(tmp_path / "a.mp4", [40 * k for k in range(250)])
    assert [number(f) for f in read_frames(path, start=8.0, duration=0.4)] == list(range(200, 210))
    assert [number(f) for f in read_frames(path, start=9.88)] == [247, 248, 249]
    with pytest.raises(VideoError, match=r"start is 11 s; .* lasts 10.00 s"):
        read_frames(path, start=11)
    with pytest.raises(VideoError, match="duration is 0 s"):
        read_frames(path, duration=0)


def test_ten_bits_wide_pixels_and_turned_phones(tmp_path):
    deep = film(tmp_path / "deep.mp4", [0, 40, 80], pix_fmt="yuv420p10le")
    assert [number(f) for f in read_frames(deep)] == [0, 1, 2]
    wide = film(tmp_path / "wide.mp4", [0, 40], aspect=Fraction(4, 3))
    assert next(read_frames(wide)).shape == (64, 128, 3)
    content = bytearray(film(tmp_path / "flat.mp4", [40 * k for k in range(6)]).read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40
    for turned, values in {
        90: (0, 1, -1, 0),  # as a phone held upright writes it: to be shown turned clockwise
        180: (-1, 0, 0, -1),
        270: (0, -1, 1, 0),
    }.items():
        for place, value in zip((0, 4, 12, 16), values, strict=True):
            content[matrix + place : matrix + place + 4] = (value * 65536).to_bytes(4, "big", signed=True)
        path = tmp_path / f"turned{turned}.mp4"
        path.write_bytes(content)
        frame = list(read_frames(path))[5]
        upright = np.rot90(frame, turned // 90)
        assert upright.shape == (64, 96, 3)
        assert number(upright) == 5
        info = probe(path)
        assert (info.height, info.width) == frame.shape[:2]


def test_what_is_no_video_is_refused_in_one_line(tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "words.mp4").write_text("not a film\n" * 100)
    whole = film(tmp_path / "whole.mp4", range(0, 2000, 40)).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    for name, message in [
        ("nowhere.mp4", "no file at"),
        ("", "is a folder"),
        ("empty.mp4", "is empty"),
        ("words.mp4", "cannot be opened"),
        ("cut.mp4", "cut off, damaged"),
        (_aac(tmp_path / "voice.m4a", 1).name, "holds sound only"),
    ]:
        for ask in (probe, read_frames):
            with pytest.raises(VideoError, match=message) as caught:
                ask(tmp_path / name)
            assert "\n" not in str(caught.value)


def test_damage_midway_names_the_second(tmp_path):
    path = write(
        tmp_path / "a.mp4", 100, make=lambda k: np.random.default_rng(k).integers(0, 255, (64, 64, 3), np.uint8)
    )
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(VideoError, match=r"damaged at [12]\.\d+ s of 4.00 s"):
        list(read_frames(path))


def test_real_videos_come_out_at_their_length(shared):
    for path in sorted((shared / "videos" / "web").glob("*.mp4"))[:2]:
        info = probe(path)
        count = sum(1 for _ in read_frames(path, duration=2))
        assert count == round(min(2, info.duration) * 25)


@pytest.mark.parametrize("size", [(512, 512), (48, 64), (2160, 3840), (300, 40)])
def test_the_label_is_legible_and_small(size):
    frame = np.full((*size, 3), 200, np.uint8)
    label(frame)
    changed = (frame != 200).any(2)
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    assert frame.max() > 230  # light letters
    assert frame.min() <= 100  # on a dark plate
    assert rows[0] > size[0] * 0.5
    if size[0] >= 512:
        assert changed.mean() < 0.05
        assert columns[0] > size[1] * 0.5
        assert len(rows) > size[0] / 30
