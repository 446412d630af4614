"""Systems on a tiny dataset: rows and columns, going on after a break, one video that fails, the open set."""

import io
import json
import math
import shutil
import tarfile
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from skimage import data

import magictalk
from magictalk import Speech
from magictalk.data.conform import annotate, write_sound, write_video
from magictalk.data.table import TABLE, ClipRecord, as_json, write_table
from magictalk.errors import DatasetError, OptionError, VideoError
from magictalk.face.landmarks import FaceDetector, FaceTracker
from magictalk.face.rig import Rig
from magictalk.metrics import benchmark as module
from magictalk.metrics.benchmark import benchmark
from magictalk.metrics.comparison import CONFIDENCES, REAL, SPEED, TABLES, Comparison, Row
from magictalk.metrics.functional.movement import head_speeds
from magictalk.metrics.movement import SMOOTH_S
from magictalk.metrics.protocols import cross_identity, open_set
from magictalk.metrics.report import Figure
from magictalk.video import probe, read_frames

SIZE = 192
PEOPLE = {"a0": ("ann", "Bob may buy."), "b0": ("ben", "Papa paid."), "a1": ("ann", "My mama.")}
"""Who says what in each clip."""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, astronaut) -> Path:
    """Three clips of two people, both of whom look like the astronaut."""
    folder = tmp_path_factory.mktemp("dataset")
    (folder / "shards").mkdir()
    head, tracker, records = np.ascontiguousarray(astronaut[0:288, 80:368]), FaceTracker(), []
    with tarfile.open(folder / "shards" / "test-000000.tar", "w") as shard:
        for key, (identity, words) in PEOPLE.items():
            speech = Speech.say(words)
            frames, samples = (
                list(magictalk.animate(head, speech, size=SIZE, drive="audio2bs").frames()),
                speech.samples(),
            )
            samples = np.pad(samples, (0, 640))[: len(frames) * 640]
            tracker.reset()
            landmarks = np.stack([tracker(frame).landmarks for frame in frames])
            write_video(folder / "clip.mp4", frames, SIZE, samples)
            write_sound(folder / "clip.wav", samples)
            known = annotate(landmarks, Rig.load().fit_video(landmarks), np.zeros(128, np.float32), frames[0])
            np.savez_compressed(folder / "clip.npz", **known)
            record = ClipRecord(
                key, f"{key}.mp4", identity=identity, split="test", duration=len(frames) / 25,
                shard="shards/test-000000.tar",
            )  # fmt: skip
            for suffix in ("mp4", "wav", "npz"):
                shard.add(folder / f"clip.{suffix}", f"{key}.{suffix}")
                (folder / f"clip.{suffix}").unlink()
            text = json.dumps(as_json(record)).encode()
            entry = tarfile.TarInfo(f"{key}.json")
            entry.size = len(text)
            shard.addfile(entry, io.BytesIO(text))
            records.append(record)
    write_table(records, folder / TABLE)
    return folder


@pytest.fixture(scope="module")
def done(dataset, tmp_path_factory):
    """A benchmark of both systems, the folder it worked in, and what it found."""
    output = tmp_path_factory.mktemp("benchmark") / "out"
    return output, benchmark(["audio2bs", "still"], dataset, output)


def test_a_row_a_system_with_the_ground_truth_first(done):
    _, found = done
    assert list(found.rows) == ["self", "cross"]
    for rows in found.rows.values():
        assert [row.system for row in rows] == [REAL, "audio2bs", "still"]
        assert all(set(chain(*TABLES)) <= set(row.figures) for row in rows)
    real, moving, still = found.rows["self"]
    assert still.figures["flicker"].value < moving.figures["flicker"].value
    assert still.figures["blinks"].value == 0 and moving.figures["Face-sim (dlib)"].value > 0.95
    assert moving.figures["Sync-C (magictalk)"].n == real.figures["Sync-C (magictalk)"].n == 3
    assert math.isnan(real.figures["SSIM"].value) and moving.figures["SSIM"].value > 0.5
    cross = found.rows["cross"][1].figures
    assert math.isnan(cross["SSIM"].value) and cross["E-FID (ARKit)"].value > 0 and cross[SPEED].value > 0
    assert str(found.rows["cross"][0]) == str(real)


@pytest.mark.parametrize("protocol", ["self", "cross"])
def test_frechet_distances_are_of_all_clips_against_all_real_ones(done, protocol):
    output, found = done

    def moments(folder: Path) -> tuple[np.ndarray, np.ndarray]:
        rows = np.concatenate([np.load(path)["coefficients"] for path in folder.glob("*.npz")]).astype(np.float64)
        return rows.mean(0), np.cov(rows.T)

    (a, covariance_a), (b, covariance_b) = (
        moments(output / "results" / part) for part in (f"audio2bs/{protocol}", "ground-truth/real")
    )
    shared = np.sqrt(np.linalg.eigvals(covariance_a @ covariance_b).real.clip(0)).sum()
    together = np.trace(covariance_a + covariance_b) - 2 * shared
    value = found.rows[protocol][1].figures["E-FID (ARKit)"].value
    assert value == pytest.approx(((a - b) ** 2).sum() + together, rel=1e-3) and value > 0.01


def test_somebody_else_s_words_are_said(done):
    output, _ = done
    names = sorted(path.name for path in (output / "videos" / "audio2bs" / "cross").iterdir())
    assert names == ["a0+b0.mp4", "a1+b0.mp4", "b0+a1.mp4"]
    made, heard = output / "videos" / "audio2bs" / "cross" / "b0+a1.mp4", output / "real" / "a1.mp4"
    assert abs(len(list(read_frames(made))) - len(list(read_frames(heard)))) <= 1
    assert probe(made).has_audio


def test_tables_markdown_and_json(done):
    _, found = done
    console = Console(width=200, file=io.StringIO(), record=True)
    for table in found.tables():
        console.print(table)
    shown, text = console.export_text(), found.markdown()
    assert shown.count("ground truth") == text.count("| ground truth |") == 6
    assert "FID" in shown and "—" in shown and "| system | FID ↓ | FVD ↓ |" in text and "(3 videos)" in text
    notes = "\n".join(found.remarks())
    assert "not computed: FID: needs Inception" in notes and "get it with" in notes
    assert "F-LMD, ADFD, lip gap, mouth width, jaw drop: the real videos are not known (cross)" in notes
    rows = json.loads(found.json())
    assert {"figure", "value", "unit", "target", "met", "low", "high", "n", "system", "protocol"} <= set(rows[0])
    assert len({row["figure"] for row in rows}) == len(rows)


def test_a_second_run_measures_only_what_is_missing(done, dataset, tmp_path, monkeypatch):
    output, found = done
    copy = shutil.copytree(output, tmp_path / "out")
    (copy / "results" / "still" / "self" / "a1.json").unlink()
    (copy / "results" / "audio2bs" / "cross" / "a0+b0.json").unlink()
    (copy / "videos" / "audio2bs" / "cross" / "a0+b0.mp4").unlink()
    (copy / "videos" / "audio2bs" / "cross" / ".a0+b0.mp4.parts").mkdir()  # as a kill leaves it
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*") if path.suffix in (".json", ".mp4")}
    judged = []
    judge = module.Scorer.__call__

    def noted(self, footage, *others, **more):
        judged.append(footage.name)
        return judge(self, footage, *others, **more)

    monkeypatch.setattr(module.Scorer, "__call__", noted)
    again = benchmark(["audio2bs", "still"], dataset, copy)
    assert judged == ["a1.mp4", "a0+b0.mp4"]
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    for protocol, rows in found.rows.items():
        for row, new in zip(rows, again.rows[protocol], strict=True):
            for name in set(row.figures) - {SPEED}:
                assert new.figures[name].value == pytest.approx(row.figures[name].value, rel=1e-5, nan_ok=True), name


def test_movement_is_compared_with_people_s(done):
    output, found = done
    truth, moving, still = (row.figures for row in found.rows["self"])
    assert moving["lip gap"].value > 0.8 and moving["lip gap"].n == 3 and math.isnan(truth["lip gap"].value)
    assert still["head speed"].value < 0.1 < 0.5 < moving["head speed"].value < 2
    assert still["head speed W1"].value > 0.9 > moving["head speed W1"].value
    # of the real clips every other one against the rest
    folder = output / "results" / "ground-truth" / "real"
    a0, b0, a1 = (head_speeds(np.load(folder / f"{key}.npz")["rotation"], SMOOTH_S) for key in PEOPLE)
    assert truth["head speed"].value == pytest.approx(np.concatenate([a0, a1]).mean() / b0.mean())
    assert math.isnan(moving["head diversity"].value) and "--seeds 2" in moving["head diversity"].reason


def test_further_seeds_are_filmed_once_and_only_tracked(done, dataset, tmp_path, monkeypatch):
    output, _ = done
    copy = shutil.copytree(output, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*") if path.suffix in (".json", ".npz", ".mp4")}
    told: list[str] = []
    monkeypatch.setattr(module.Scorer, "__call__", None)
    asked = {"protocols": ["self"], "limit": 2, "seeds": 3}
    found = benchmark(["audio2bs", "still"], dataset, copy, progress=lambda *now: told.append(now[0]), **asked)
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    new = sorted(path.relative_to(copy / "videos").as_posix() for path in copy.rglob("*.mp4") if path not in before)
    takes = [
        f"{name}/self/seed-{s}/{key}.mp4" for name in ("audio2bs", "still") for s in (1, 2) for key in ("a0", "b0")
    ]
    assert new == takes and len(told) == 2 + 2 * 2 * 3
    truth, moving, still = (row.figures for row in found.rows["self"])
    assert still["head diversity"].value == still["expression diversity"].value == 0
    assert 0.3 < moving["head diversity"].value < 10 and moving["head diversity"].n == 2
    assert 0.1 < moving["expression diversity"].value < 10
    assert math.isnan(truth["head diversity"].value)
    (copy / "videos" / takes[0]).unlink()
    again = benchmark(["audio2bs"], dataset, copy, **asked)
    assert not (copy / "videos" / takes[0]).exists()
    assert again.rows["self"][1].figures["head diversity"] == moving["head diversity"]


def test_a_take_that_fails_leaves_its_clip_out_of_diversity(dataset, tmp_path, monkeypatch):
    class Moody:
        name = "moody"

        def __call__(self, portrait, speech, seed=0):
            seeds.append(seed)
            if seed - 1 in seeds and Speech.frame_count(len(speech.samples())) == shortest:
                raise VideoError("not today")
            return iter([portrait.image] * 12)

    seeds: list[int] = []
    shortest = min(len(list(read_frames(path))) for path in unpacked(dataset, tmp_path))
    monkeypatch.setattr(module, "load_system", lambda name: Moody())
    found = benchmark(["moody"], dataset, tmp_path / "out", protocols=["self"], seed=7, seeds=2)
    assert found.rows["self"][1].figures["head diversity"].n == 2
    assert found.rows["self"][1].figures["SSIM"].n == 3
    failed = [note for note in found.notes if "failed" in note]
    assert len(failed) == 1 and "self/seed-8" in failed[0] and failed[0].endswith("not today")
    # every video has a seed of its own, and its further takes the next ones
    assert len(seeds) == len(set(seeds)) == 6 and {s + 1 for s in seeds[:3]} == set(seeds[3:])


def test_other_options_need_another_folder(done, dataset):
    output, _ = done
    with pytest.raises(OptionError, match="holds a benchmark with every 5, now 2"):
        benchmark(["still"], dataset, output, every=2)


def test_one_video_that_fails_is_listed_and_tried_again(dataset, tmp_path, monkeypatch):
    class Flaky:
        name = "flaky"
        broken = True

        def __call__(self, portrait, speech, seed=0):
            if self.broken and Speech.frame_count(len(speech.samples())) == shortest:
                raise VideoError("no luck today")
            return iter([portrait.image] * 12)

    shortest = min(len(list(read_frames(path))) for path in unpacked(dataset, tmp_path))
    monkeypatch.setattr(module, "load_system", lambda name: Flaky())
    found = benchmark(["flaky"], dataset, tmp_path / "out", protocols=["self"])
    assert found.rows["self"][1].figures["SSIM"].n == 2
    assert next(note for note in found.notes if "failed" in note).endswith("no luck today")
    monkeypatch.setattr(Flaky, "broken", False)
    found = benchmark(["flaky"], dataset, tmp_path / "out", protocols=["self"])
    assert found.rows["self"][1].figures["SSIM"].n == 3 and not any("failed" in note for note in found.notes)


def unpacked(dataset: Path, folder: Path) -> list[Path]:
    from magictalk.data.dataset import Dataset
    from magictalk.metrics.protocols import unpack

    return [clip.path for clip in unpack(Dataset(dataset), folder / "clips")]


def test_the_open_set_is_every_portrait_with_every_voice(dataset, tmp_path, astronaut):
    portraits, voices = tmp_path / "portraits", tmp_path / "voices"
    portraits.mkdir(), voices.mkdir()
    Image.fromarray(astronaut).save(portraits / "whole.jpg")
    Image.fromarray(astronaut[0:300, 60:360]).save(portraits / "head.png")
    Image.fromarray(data.coffee()).save(portraits / "cups.png")
    (voices / "notes.txt").write_text("not a sound")
    for name in ("one", "two"):
        write_sound(voices / f"{name}.wav", Speech.say(f"This is voice {name}, and it goes on for a while.").samples())
    grid = {"portraits": portraits, "voices": voices, "seconds": 1.0}
    found = benchmark(["still"], dataset, tmp_path / "out", protocols=["grid"], limit=3, **grid)
    made = sorted(path.name for path in (tmp_path / "out" / "videos" / "still" / "grid").glob("*.mp4"))
    assert made == ["head+one.mp4", "head+two.mp4", "whole+one.mp4"]
    info = probe(tmp_path / "out" / "videos" / "still" / "grid" / made[2])
    assert (info.width, info.height, info.has_audio) == (512, 512, True) and abs(info.duration - 1) < 0.1
    passed = [note for note in found.notes if note.startswith("passed over")]
    assert len(passed) == 2 and "cups.png" in passed[0] and "notes.txt" in passed[1]
    assert found.rows["grid"][1].figures["Face-sim (dlib)"].value > 0.98
    assert math.isnan(found.rows["grid"][1].figures["E-FID (ARKit)"].value)


@pytest.mark.parametrize("name", CONFIDENCES)
def test_more_confident_than_the_real_videos_is_a_warning(name):
    def row(system: str, confidence: float) -> Row:
        return Row(
            system, {figure: Figure(figure, 1.0) for figure in chain(*TABLES)} | {name: Figure(name, confidence)}
        )

    rows = [row(REAL, 5.0), row("loud", 5.1), row("honest", 4.9), row("unknown", math.nan)]
    assert Comparison({"self": rows}).remarks() == [
        f"warning: {name} of loud (self) is above the ground truth's, which is no success: never tune to one figure"
    ]


def test_a_network_that_comes_later_adds_its_figures(dataset, tmp_path, weights):
    folder = tmp_path / "weights"
    folder.mkdir()
    asked = {"output": tmp_path / "out", "protocols": ["self"], "limit": 1, "weights": folder}
    before = benchmark(["still"], dataset, **asked).rows["self"][1].figures
    assert math.isnan(before["LPIPS"].value) and math.isnan(before["FID"].value)
    for name in ("lpips", "inception"):
        shutil.copytree(weights / name, folder / name)
    after = benchmark(["still"], dataset, **asked).rows["self"][1].figures
    assert after["LPIPS"].value > 0 and after["FID"].value > 0 and after["FID"].n == 1
    assert after["SSIM"].value == pytest.approx(before["SSIM"].value)
    assert after[SPEED].value == before[SPEED].value
    results = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "results").rglob("*.json")}
    shutil.rmtree(folder / "lpips")
    again = benchmark(["still"], dataset, **asked).rows["self"][1].figures
    assert math.isnan(again["LPIPS"].value) and again["FID"].value == after["FID"].value
    assert all(path.stat().st_mtime_ns == time for path, time in results.items())


def test_files_of_one_name_are_different_portraits_and_voices(tmp_path, astronaut):
    portraits, voices = tmp_path / "portraits", tmp_path / "voices"
    portraits.mkdir(), voices.mkdir()
    for name in ("a.jpg", "a.png"):
        Image.fromarray(astronaut).save(portraits / name)
    for name in ("v.wav", "v.flac"):
        write_sound(voices / "v.wav", np.zeros(16000, np.float32))
        (voices / name).write_bytes((voices / "v.wav").read_bytes())
    cases, passed = open_set(portraits, voices, 1.0, tmp_path / "cut", FaceDetector())
    assert not passed and len({case.key for case in cases}) == 4
    assert len(list((tmp_path / "cut").iterdir())) == 2


def test_one_person_cannot_say_the_words_of_another(tmp_path):
    clips = [module.TestClip(key, "ann", tmp_path) for key in ("a", "b")]
    with pytest.raises(DatasetError, match=r"all 2 test clips show 'ann'; .* give --protocol self"):
        cross_identity(clips)


@pytest.mark.parametrize(
    ("options", "kind", "says"),
    [
        ({"systems": ["mcdm2"]}, OptionError, "no system named 'mcdm2'"),
        ({"protocols": ["sideways"]}, OptionError, "no protocol named 'sideways'; expected self, cross, grid"),
        ({"protocols": ["grid"]}, OptionError, "--portraits FOLDER and --voices FOLDER"),
        ({"portraits": "nowhere"}, OptionError, "belong together; give both --portraits FOLDER and --voices FOLDER"),
        ({"voices": "nowhere", "protocols": ["self"]}, OptionError, "belong together"),
        ({"data": "nowhere"}, DatasetError, "no folder at"),
        ({"portraits": "nowhere", "voices": "nowhere"}, DatasetError, "no folder at"),
    ],
)
def test_what_cannot_be_asked(dataset, tmp_path, options, kind, says):
    given = {"systems": ["still"], "data": dataset, "output": tmp_path / "out"} | options
    given |= {name: tmp_path / given[name] for name in ("data", "portraits", "voices") if given.get(name) == "nowhere"}
    with pytest.raises(kind, match=says):
        benchmark(**given)
