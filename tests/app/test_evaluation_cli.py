"""``magictalk evaluate`` and ``magictalk benchmark``: what is printed and written, and bad input in one clear line."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import wavfile

import magictalk
from magictalk import Speech
from magictalk.video import VideoWriter, read_frames


@pytest.fixture(scope="module")
def files(tmp_path_factory, astronaut) -> Path:
    """A talking video, and much that cannot be measured."""
    folder = tmp_path_factory.mktemp("files")
    head = np.ascontiguousarray(astronaut[0:288, 80:368])
    Image.fromarray(head).save(folder / "face.png")
    magictalk.animate(head, Speech.say("Bob may buy papers."), drive="audio2bs", size=128).save(folder / "talk.mp4")
    wavfile.write(folder / "sound.wav", 16000, np.zeros(16000, np.int16))
    (folder / "empty.mp4").touch()
    (folder / "words.mp4").write_text("not a video")
    (folder / "cut.mp4").write_bytes((folder / "talk.mp4").read_bytes()[:4000])
    (folder / "nothing").mkdir()
    (folder / "phones.csv").write_text("start,end,phoneme\n0.10,0.20,b\n")
    with VideoWriter(folder / "tiny.mp4") as video:
        for _ in range(5):
            video.write(head[:32, :32])
    return folder


def test_a_video_against_itself(run, files, tmp_path):
    outputs = [
        part for name in ("json", "csv", "markdown", "drift") for part in (f"--{name}", tmp_path / f"figures.{name}")
    ]
    talk = files / "talk.mp4"
    code, out, err = run("evaluate", talk, "--reference", talk, "--phonemes", files / "phones.csv", *outputs)
    assert (code, err) == (0, "")
    for word in ("SSIM", "M-LMD", "Sync-D (magictalk)", "bilabial closure", "95 %", "talk.mp4 against talk.mp4"):
        assert word in out
    assert "not computed: FID: needs Inception" in out and "cut to the shorter" in out
    rows = {row["figure"]: row for row in json.loads((tmp_path / "figures.json").read_text())}
    assert rows["SSIM"]["value"] == 1 and rows["M-LMD"]["value"] == 0 and rows["FID"]["value"] is None
    with (tmp_path / "figures.csv").open(newline="") as file:
        assert [row["figure"] for row in csv.DictReader(file)] == list(rows)
    assert "| SSIM | ↑ | 1 |" in (tmp_path / "figures.markdown").read_text()
    with (tmp_path / "figures.drift").open(newline="") as file:
        curve = list(csv.DictReader(file))
    assert [int(row["frame"]) for row in curve] == list(range(0, len(list(read_frames(talk))), 5))
    assert {row["clip"] for row in curve} == {"talk.mp4"} and float(curve[0]["similarity"]) == pytest.approx(1)
    assert all(0.95 < float(row["similarity"]) <= 1 for row in curve)
    assert len(list(tmp_path.iterdir())) == 4


def test_without_a_real_video_a_portrait_tells_who_it_is(run, files):
    code, out, _ = run("evaluate", files / "talk.mp4", "--portrait", files / "face.png", "--every", 10)
    assert code == 0 and "Face-sim (dlib)" in out and "needs the real video (--reference)" in out
    assert "one frame in 10" in out


BAD = {
    "nobody.mp4": "no file or folder at",
    "empty.mp4": "empty.mp4 is empty",
    "words.mp4": "words.mp4 cannot be opened",
    "cut.mp4": "cut.mp4",
    "sound.wav": "holds sound only; expected a video",
}


@pytest.mark.parametrize("name", BAD)
def test_bad_videos(fails, files, tmp_path, name):
    output = "--json", tmp_path / "figures.json"
    fails("evaluate", files / name, *output, says=BAD[name])
    fails("evaluate", files / name, "--reference", files / "talk.mp4", *output, says=BAD[name])
    fails("evaluate", files / "talk.mp4", "--reference", files / name, *output, says=BAD[name])


def test_empty_folders_and_tiny_pictures(fails, files):
    fails("evaluate", files / "nothing", says="no video in")
    fails("evaluate", files, "--reference", files / "nothing", says="no video in")
    fails("evaluate", files / "talk.mp4", "--reference", files / "nothing", says="expected two of a kind")
    fails("evaluate", files / "tiny.mp4", says="tiny.mp4 is 32x32 px; expected at least 64x64")
    fails("evaluate", files / "talk.mp4", "--reference", files / "tiny.mp4", says="tiny.mp4 is 32x32 px")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--weights", "nowhere"], "no folder of weights at nowhere"),
        (["--phonemes", "nowhere.csv"], "no phoneme times at nowhere.csv"),
        (["--portrait", "nowhere.png"], "no picture at nowhere.png"),
        (["--every", "0"], "--every"),
        (["--json", "no/figures.json"], "no folder at no"),
        (["--markdown", "/proc"], "is a folder"),
        (["--drift", "no/drift.csv"], "no folder at no"),
    ],
)
def test_bad_options(fails, files, arguments, says):
    fails("evaluate", files / "talk.mp4", *arguments, says=says)


def test_a_file_that_exists_is_kept(run, files, tmp_path):
    target = tmp_path / "figures.json"
    target.write_text("precious")
    code, _, err = run("evaluate", files / "talk.mp4", "--json", target)
    assert code == 2 and "exists; give another name, or --overwrite" in err and target.read_text() == "precious"
    assert run("evaluate", files / "talk.mp4", "--json", target, "--overwrite", "--every", 20)[0] == 0
    assert json.loads(target.read_text())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["audio2bs"], "no folder at"),
        (["mcdm2"], "no system named 'mcdm2'; expected one of audio2bs, emodiff"),
        (["audio2bs", "--protocol", "sideways"], "no protocol named 'sideways'"),
        (["audio2bs", "--protocol", "grid"], "give --portraits FOLDER and --voices FOLDER"),
        (["audio2bs", "--limit", "0"], "--limit"),
        (["audio2bs", "--seeds", "0"], "--seeds"),
        (["audio2bs", "--json", "no/figures.json"], "no folder at no"),
    ],
)
def test_bad_benchmarks(fails, tmp_path, arguments, says):
    fails("benchmark", *arguments, "--data", tmp_path / "nowhere", "-o", tmp_path / "out", says=says)


def test_a_folder_that_is_no_dataset(run, files, tmp_path):
    folder = shutil.copytree(files, tmp_path / "videos")
    code, out, err = run("benchmark", "still", "--data", folder, "-o", tmp_path / "out")
    assert (code, out) == (2, "") and "no table at" in err and not (tmp_path / "out").exists()
    (folder / ".work").mkdir()
    code, _, err = run("benchmark", "still", "--data", folder, "-o", tmp_path / "out")
    assert code == 2 and "half built" in err and err.count("\n") == 1


def test_help(run):
    for command in ("evaluate", "benchmark"):
        code, out, err = run(command, "--help")
        assert code == 0 and f"magictalk {command}" in out and not err


@pytest.mark.parametrize("command", [["evaluate", "a.mp4"], ["benchmark", "still", "--data", "there"]])
def test_without_the_libraries_it_says_how_to_install_them(tmp_path, command):
    script = "import sys; sys.modules['torchmetrics'] = None; from magictalk.app.cli import main; main(sys.argv[1:])"
    done = subprocess.run([sys.executable, "-c", script, *command], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    says = "error: figures need torchmetrics, which is not installed; pip install 'magictalk[metrics]'\n"
    assert done.stderr == says and not list(tmp_path.iterdir())
