"""Which video belongs to which, when closed lips are due, and files that cannot be used."""

import json
import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

import magictalk
from magictalk import Speech
from magictalk.errors import DatasetError, OptionError, VideoError
from magictalk.metrics.evaluation import evaluate, find_pairs, read_spans
from magictalk.video import VideoWriter, read_frames


@pytest.fixture(scope="module")
def talk(tmp_path_factory, astronaut) -> Path:
    """A second and a half of the astronaut, 128 pixels wide."""
    path = tmp_path_factory.mktemp("talk") / "talk.mp4"
    head = np.ascontiguousarray(astronaut[0:288, 80:368])
    magictalk.animate(head, Speech.say("Bob may buy papers."), drive="audio2bs", size=128).save(path)
    return path


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for name in names:
        (folder / name).touch()
    return folder


def test_folders_are_paired_by_name(tmp_path):
    ours = touch(tmp_path / "ours", "b.mp4", "a.webm", "only.mp4", "notes.txt", ".hidden.mp4")
    theirs = touch(tmp_path / "theirs", "a.mov", "b.mkv", "other.mp4")
    pairs, remarks = find_pairs(ours, theirs)
    assert [(p.generated.name, p.reference.name) for p in pairs] == [("a.webm", "a.mov"), ("b.mp4", "b.mkv")]
    assert [remark.split()[2] for remark in remarks] == ["only.mp4", "other.mp4"]
    assert len(find_pairs(ours, None)[0]) == 3


def test_sub_folders_are_part_of_the_name(tmp_path):
    for folder, suffix in (("ours", "mp4"), ("theirs", "mov")):
        for person in ("ann", "ben"):
            (tmp_path / folder / person).mkdir(parents=True)
            (tmp_path / folder / person / f"take.1.{suffix}").touch()
    (tmp_path / "theirs" / "take.1.mov").touch()
    pairs, remarks = find_pairs(tmp_path / "ours", tmp_path / "ours" / ".." / "theirs")
    assert [pair.name for pair in pairs] == ["ann/take.1.mp4", "ben/take.1.mp4"]
    assert [pair.reference.parent.name for pair in pairs] == ["ann", "ben"]
    assert len(remarks) == 1 and remarks[0].startswith("left out: take.1.mov has no partner in")


def test_what_cannot_be_paired(tmp_path):
    ours, theirs = touch(tmp_path / "ours", "a.mp4"), touch(tmp_path / "theirs", "b.mp4")
    empty, twice = touch(tmp_path / "empty", "a.txt"), touch(tmp_path / "twice", "a.mp4", "a.mov")
    for generated, reference, kind, says in (
        (ours, theirs, DatasetError, "has the name of one in"),
        (empty, theirs, DatasetError, "no video in .*empty"),
        (ours, empty, DatasetError, "no video in .*empty"),
        (empty, None, DatasetError, "no video in .*empty"),
        (ours, twice, DatasetError, "have one name"),
        (ours, theirs / "b.mp4", OptionError, "ours is a folder and .*b.mp4 a file"),
        (ours / "a.mp4", theirs, OptionError, "theirs is a folder and .*a.mp4 a file"),
        (tmp_path / "nowhere", theirs, DatasetError, "no file or folder at"),
        (ours, tmp_path / "nowhere", DatasetError, "no file or folder at"),
    ):
        with pytest.raises(kind, match=says):
            find_pairs(generated, reference)


def test_phoneme_times(tmp_path):
    rows = [{"start": 0.1, "end": 0.2, "phoneme": "P"}, {"start": 0.3, "end": 0.4, "phoneme": "a"}]
    (tmp_path / "p.json").write_text(json.dumps([*rows, {"start": 1, "end": 2, "phoneme": "m", "clip": "talk"}]))
    (tmp_path / "p.csv").write_text("start,end,phoneme\n0.1,0.2,p\n0.3,0.4,a\n0.5,0.6,b\n")
    assert read_spans(tmp_path / "p.json") == {"": [(0.1, 0.2)], "talk": [(1.0, 2.0)]}
    assert read_spans(tmp_path / "p.csv") == {"": [(0.1, 0.2), (0.5, 0.6)]}


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.csv", "from,to,phoneme\n1,2,p\n", "no 'start'"),
        ("a.csv", "start,end,phoneme\nx,2,p\n", "could not convert"),
        ("a.csv", "start,end,phoneme\n1,2,a\n", "tells of no p, b, m"),
        ("a.json", "{", "holds no phoneme times"),
        ("a.json", "[1]", "holds no phoneme times"),
        ("a.json", "[]", "tells of no"),
    ],
)
def test_bad_phoneme_times(tmp_path, name, text, says):
    (tmp_path / name).write_text(text)
    with pytest.raises(OptionError, match=says):
        read_spans(tmp_path / name)
    with pytest.raises(OptionError, match="no phoneme times at"):
        read_spans(tmp_path / "none.csv")


def test_one_bad_video_in_a_folder_is_remarked_and_the_rest_is_measured(tmp_path, talk):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for folder in (ours, theirs):
        folder.mkdir()
        for name in ("good.mp4", "broken.mp4", "empty.mp4", "mute.mp4", "short.mp4"):
            shutil.copy(talk, folder / name)
    (ours / "broken.mp4").write_bytes(talk.read_bytes()[:3000])
    (theirs / "empty.mp4").write_bytes(b"")
    frames = list(read_frames(talk))
    for name, length in (("mute.mp4", len(frames)), ("short.mp4", len(frames) // 2)):
        with VideoWriter(ours / name, overwrite=True) as video:
            for frame in frames[:length]:
                video.write(frame)
    calls: list[tuple[str, int, int]] = []
    report = evaluate(ours, theirs, progress=lambda *told: calls.append(told))
    figures = {f.figure: f for f in report.figures}
    assert figures["SSIM"].n == 3 and figures["SSIM"].value > 0.97
    assert figures["Sync-C (magictalk)"].n == 1 and figures["M-LMD"].n == 3
    left_out = [remark for remark in report.remarks if remark.startswith("left out")]
    assert len(left_out) == 2 and "broken.mp4" in left_out[0] and "is empty" in left_out[1]
    assert any("short.mp4 has a reference over a tenth too long" in remark for remark in report.remarks)
    assert [name for name, _, _ in calls] == ["broken.mp4", "empty.mp4", "good.mp4", "mute.mp4", "short.mp4"]


def test_when_nothing_can_be_measured_the_first_reason_is_told(tmp_path):
    folder = touch(tmp_path / "bad", "a.mp4", "b.mp4")
    with pytest.raises(DatasetError, match="none of the 2 videos"):
        evaluate(folder)
    with pytest.raises(VideoError, match=r"a.mp4 is empty"):
        evaluate(folder / "a.mp4")


def film(path: Path, frames: list[np.ndarray], times_ms: list[int], pix_fmt: str = "yuv420p") -> Path:
    """A file of frames at any times, made by PyAV alone."""
    with av.open(str(path), "w") as container:
        height, width = frames[0].shape[:2]
        stream = container.add_stream("libx264", rate=25, width=width, height=height, pix_fmt=pix_fmt)
        stream.options = {"crf": "12"}
        stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        for picture, time in zip(frames, times_ms, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_files_as_phones_and_cameras_make_them_are_the_same_video(tmp_path, talk):
    frames = [np.ascontiguousarray(frame[:, 16:112]) for frame in read_frames(talk)]  # upright
    steady = [40 * k for k in range(len(frames))]
    ours, theirs = touch(tmp_path / "ours"), touch(tmp_path / "theirs")
    for name in ("deep", "turned", "uneven"):
        film(theirs / f"{name}.mp4", frames, steady)
    film(ours / "deep.mp4", frames, steady, "yuv420p10le")
    kept = [k for k in range(len(frames)) if k % 4 != 2]
    film(ours / "uneven.mp4", [frames[k] for k in kept], [steady[k] for k in kept])
    lying = bytearray(film(ours / "turned.mp4", [np.rot90(frame) for frame in frames], steady).read_bytes())
    matrix = lying.index(b"tkhd") + 4 + 40  # says: show it turned clockwise by a quarter
    for place, number in zip((0, 4, 12, 16), (0, 1, -1, 0), strict=True):
        lying[matrix + place : matrix + place + 4] = (number * 65536).to_bytes(4, "big", signed=True)
    (ours / "turned.mp4").write_bytes(lying)
    for name, least in (("deep", 0.98), ("turned", 0.98), ("uneven", 0.95)):
        report = evaluate(ours / f"{name}.mp4", theirs / f"{name}.mp4")
        figures = {figure.figure: figure.value for figure in report.figures}
        assert figures["SSIM"] > least and figures["F-LMD"] < 1 and figures["faces lost"] == 0, name
        assert len(report.remarks) == 2, report.remarks  # the rules alone: neither stretched nor too long


def test_an_emotion_that_the_classifier_does_not_know_is_told_before_the_work(tmp_path, weights):
    with pytest.raises(OptionError, match="emotion 'bored'; the classifier knows angry, happy, sad"):
        evaluate(touch(tmp_path / "ours", "a.mp4", "b.mp4"), emotion="bored", weights=weights, progress=pytest.fail)
