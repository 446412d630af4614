"""The command line on good and bad input: one line, exit code 2, nothing left under the output's name."""

import os
import resource
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import wavfile
from skimage import data

import magictalk
from magictalk import Motion, weights
from magictalk.video import probe, read_frames

RATE = 16000


def tone(seconds: float, rate: int = RATE) -> np.ndarray:
    """A buzz that comes and goes, int16."""
    t = np.arange(round(seconds * rate)) / rate
    return (np.sin(2 * np.pi * 150 * t) ** 9 * np.sin(9 * t) * 12000).astype(np.int16)


@pytest.fixture(scope="session")
def files(tmp_path_factory, astronaut) -> Path:
    """A folder with one good and many bad inputs."""
    folder = tmp_path_factory.mktemp("files")
    head = np.ascontiguousarray(astronaut[20:240, 120:320])
    Image.fromarray(head).save(folder / "face.png")
    Image.fromarray(data.coffee()).save(folder / "lake.jpg")
    Image.fromarray(head).resize((100, 110)).save(folder / "small.png")
    whole = (folder / "face.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    for name in ("empty.png", "empty.wav"):
        (folder / name).touch()
    (folder / "words.png").write_text("not a picture")
    (folder / "words.wav").write_text("not a sound")
    wavfile.write(folder / "hello.wav", RATE, tone(0.4))
    sound = (folder / "hello.wav").read_bytes()
    (folder / "cut.wav").write_bytes(sound[: len(sound) // 2])
    wavfile.write(folder / "nothing.wav", RATE, np.zeros(0, np.int16))
    with_nan = tone(0.4).astype(np.float32) / 32768
    with_nan[3000] = np.nan
    wavfile.write(folder / "nan.wav", RATE, with_nan)
    wavfile.write(folder / "silent.wav", RATE, np.zeros(RATE // 2, np.int16))
    wavfile.write(folder / "clipped.wav", RATE, np.sign(tone(0.4)) * np.int16(32767))
    wavfile.write(folder / "telephone.wav", 8000, tone(0.4, 8000))
    wavfile.write(folder / "surround.wav", 48000, np.repeat(tone(0.4, 48000)[:, None], 8, 1))
    Motion.zeros(2000).save(folder / "still.npz")
    (folder / "bad.csv").write_text("a,b\n1,2\n")
    return folder


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nobody.png", "no picture at"),
        ("empty.png", "is empty"),
        ("cut.png", "cut off or damaged"),
        ("words.png", "is not a picture"),
        ("lake.jpg", "no face found in lake.jpg (600x400); try --face-box"),
        ("small.png", "face in small.png is 46 px wide; at least 48"),
        (".", "is a folder"),
    ],
)
@pytest.mark.parametrize("command", ["animate", "inspect"])
def test_bad_portraits(fails, files, tmp_path, command, name, says):
    sound = [files / "hello.wav"] if command == "animate" else []
    output = tmp_path / ("out.mp4" if command == "animate" else "sheet.png")
    fails(command, files / name, *sound, "-o", output, says=says)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nobody.wav", "no file at"),
        ("empty.wav", "is empty"),
        ("cut.wav", "cut off or damaged"),
        ("words.wav", "not media"),
        ("nothing.wav", "0.000 s of sound"),
        ("nan.wav", "not a number at 0.19 s"),
        ("face.png", "without sound"),
        (".", "is a folder"),
    ],
)
@pytest.mark.parametrize("command", ["animate", "motion"])
def test_bad_speech(fails, files, tmp_path, command, name, says):
    if command == "animate":
        fails("animate", files / "face.png", files / name, "-o", tmp_path / "out.mp4", says=says)
    else:
        fails("motion", files / name, "--from", "speech", "-o", tmp_path / "motion.csv", says=says)


@pytest.mark.parametrize("name", ["hello", "silent", "clipped", "telephone", "surround"])
def test_unusual_speech_is_fine(run, files, tmp_path, name):
    rate, samples = wavfile.read(files / f"{name}.wav")
    code, out, err = run("animate", files / "face.png", files / f"{name}.wav", "-o", tmp_path / "out.mp4")
    assert (code, out, err) == (0, f"{tmp_path / 'out.mp4'}\n", "")
    assert len(list(read_frames(tmp_path / "out.mp4"))) == round(len(samples) / rate * 25)
    assert probe(tmp_path / "out.mp4").has_audio
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]


def test_text_becomes_a_video(run, files, tmp_path):
    code, out, _ = run(
        "animate", files / "face.png", "--text", "Hi.", "--size", 96, "--label", "-o", tmp_path / "a.webm"
    )
    assert code == 0 and Path(out.strip()) == tmp_path / "a.webm"
    assert probe(tmp_path / "a.webm").has_audio


@pytest.mark.parametrize("name", ["a b.mp4", 'it\'s "so".mp4', "été 日本.mp4", "-.mp4", "12:30.mp4"])
def test_names_with_spaces_quotes_and_unicode(run, files, tmp_path, name):
    face, sound = tmp_path / f"face {name}.png", tmp_path / f"sound {name}.wav"
    face.write_bytes((files / "face.png").read_bytes())
    sound.write_bytes((files / "hello.wav").read_bytes())
    code, out, _ = run("animate", face, sound, "--motion", files / "still.npz", "-o", tmp_path / name)
    assert (code, out) == (0, f"{tmp_path / name}\n") and len(list(read_frames(tmp_path / name))) == 10


def test_ten_hours_start_at_once(files, tmp_path):
    path = tmp_path / "long.wav"
    size = 36000 * 8000 * 2
    header = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", size + 36, b"WAVE", b"fmt ", 16, 1, 1, 8000, 16000, 2, 16,
                         b"data", size)  # fmt: skip
    path.write_bytes(header)
    os.truncate(path, len(header) + size)  # silence that takes no room on the disk
    made = magictalk.animate(files / "face.png", path)
    began = time.monotonic()
    frames = made.frames()
    assert next(frames).shape == (220, 200, 3) and time.monotonic() - began < 10
    assert made.frame_count == 900_000


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--lips", "3"], "--lips"),
        (["--head", "x"], "--head"),
        (["--size", "12"], "size is 12; expected native, or 64"),
        (["--size", "big"], "neither native nor a number"),
        (["--face", "0"], "--face"),
        (["--face", "2"], "no face 2 in face.png: 1 face was found"),
        (["--face-box", "1,2,3"], "x,y,width,height"),
        (["--text", "hello"], "both speech and text"),
        (["--start", "9"], "start is 9.0 s"),
        (["--duration", "0"], "duration is 0"),
        (["--motion", "missing.csv"], "no motion file at"),
        (["--driving", "missing.mp4"], "no file at"),
        (["--speed", "2"], "No such option"),
        (["--emotion", "joyful"], "no emotion named 'joyful'; expected one of neutral, happy"),
        (["--emotion", "happy 1.6"], "intensity of happy is 1.6; expected 0 to 1.5"),
        (["--emotion", "happy", "--prompt", "sad"], "both emotion and prompt were given"),
        (["--timeline", "3s sad, 1s happy"], "'1s happy' after '3s sad'"),
        (["--style", "missing.png"], "no file at missing.png"),
        (["--prompt", ""], "prompt"),
        (["--guidance", "11"], "--guidance"),
        (["--drive", "wav2lip"], "--drive"),
        (["--drive", "audio2bs", "--emotion", "sad"], "audio2bs was asked for"),
    ],
)
def test_bad_options(fails, files, tmp_path, arguments, says):
    fails("animate", files / "face.png", files / "hello.wav", "-o", tmp_path / "out.mp4", *arguments, says=says)


def test_a_style_clip_without_a_face(fails, files, tmp_path, tmp_path_factory):
    blank = tmp_path_factory.mktemp("style") / "blank.png"
    Image.new("RGB", (120, 120), "green").save(blank)
    fails("animate", files / "face.png", files / "hello.wav", "--style", blank, "-o", tmp_path / "out.mp4",
          says="no face found in blank.png")  # fmt: skip


def test_nothing_to_say_and_unknown_voices(fails, files, tmp_path):
    fails("animate", files / "face.png", "-o", tmp_path / "out.mp4", says="nothing to say")
    fails("animate", files / "face.png", "--text", " ", "-o", tmp_path / "out.mp4", says="text")
    fails("animate", files / "face.png", "--text", "hi", "--voice", "xx", "-o", tmp_path / "out.mp4", says="xx")


def test_bad_motion_and_driving_files(fails, files, tmp_path):
    common = ("animate", files / "face.png", files / "hello.wav", "-o", tmp_path / "out.mp4")
    fails(*common, "--motion", files / "bad.csv", says="is not a motion file")
    fails(*common, "--motion", files / "face.png", says="expected .npz or .csv")
    fails(*common, "--driving", files / "hello.wav", says="sound only")
    fails(*common, "--driving", files / "lake.jpg", says="no face")


@pytest.mark.parametrize("command", ["animate", "motion", "inspect"])
def test_bad_outputs(fails, files, tmp_path, command):
    names = {"animate": "out.mp4", "motion": "out.csv", "inspect": "out.png"}
    inputs = {
        "animate": [files / "face.png", files / "hello.wav"], "motion": [files / "hello.wav"],
        "inspect": [files / "face.png"],
    }  # fmt: skip
    fails(command, *inputs[command], "-o", tmp_path / "no" / names[command], says="no folder at")
    fails(command, *inputs[command], "-o", tmp_path / "out.doc", says="cannot write")
    fails(command, *inputs[command], "-o", f"/proc/{names[command]}", says="/proc")
    fails(command, *inputs[command], "-o", tmp_path / (300 * "x" + names[command]), says="bytes")
    if os.geteuid():
        tmp_path.chmod(0o500)
        fails(command, *inputs[command], "-o", tmp_path / names[command], says=str(tmp_path))


@pytest.mark.parametrize("command", ["animate", "motion", "inspect"])
def test_an_output_that_exists_is_kept(run, files, tmp_path, command):
    name = {"animate": "out.mp4", "motion": "out.npz", "inspect": "out.png"}[command]
    inputs = [files / "hello.wav"] if command == "motion" else [files / "face.png"]
    inputs += [files / "hello.wav", "--size", "64"] if command == "animate" else []
    (tmp_path / name).write_text("precious")
    code, _, err = run(command, *inputs, "-o", tmp_path / name)
    assert code == 2 and "exists" in err and "--overwrite" in err and err.count("\n") == 1
    assert (tmp_path / name).read_text() == "precious"
    assert run(command, *inputs, "-o", tmp_path / name, "--overwrite")[0] == 0
    assert (tmp_path / name).stat().st_size > 100
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_motion_is_written_for_other_tools(run, files, tmp_path):
    assert run("motion", files / "hello.wav", "-o", tmp_path / "m.csv")[0] == 0
    header = (tmp_path / "m.csv").read_text().splitlines()[0].split(",")
    assert header[:3] == ["Timecode", "BlendShapeCount", "EyeBlinkLeft"] and len(header) == 63
    assert len(Motion.open(tmp_path / "m.csv")) == 10


def test_inspect_writes_a_sheet(run, files, tmp_path):
    assert run("inspect", files / "face.png", "-o", tmp_path / "sheet.png")[0] == 0
    assert Image.open(tmp_path / "sheet.png").size == (2000, 540)


def test_version_and_help(run):
    assert run("--version") == (0, f"magictalk {magictalk.__version__}\n", "")
    for arguments in ([], ["--help"], ["animate", "--help"], ["motion", "--help"], ["inspect", "--help"]):
        code, out, err = run(*arguments)
        assert code == 0 and "Usage: magictalk" in out and not err
    code, _, err = run("sing")
    assert code == 2 and err.count("\n") == 1


def command(*arguments: object, **options) -> subprocess.Popen:
    line = [sys.executable, "-m", "magictalk.app.cli", *map(str, arguments)]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def test_ctrl_c_leaves_nothing(files, tmp_path):
    wavfile.write(tmp_path / "long.wav", RATE, np.tile(tone(1), 70))
    still = ("--motion", files / "still.npz")
    job = command("animate", files / "face.png", tmp_path / "long.wav", *still, "-o", tmp_path / "out.mp4")
    while not list(tmp_path.glob(".out.mp4.parts/*")):
        assert job.poll() is None, job.communicate()
        time.sleep(0.02)
    job.send_signal(signal.SIGINT)
    out, err = job.communicate(timeout=20)
    assert job.returncode == 130 and out == "" and err.startswith("stopped") and err.count("\n") == 1
    assert not (tmp_path / "out.mp4").exists()


def test_full_disk_leaves_nothing(files, tmp_path):
    def small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))

    still = ("--motion", files / "still.npz")
    job = command(
        "animate", files / "face.png", files / "hello.wav", *still, "-o", tmp_path / "out.mp4", preexec_fn=small_disk
    )
    out, err = job.communicate(timeout=60)
    assert (job.returncode, out) == (2, "") and err.startswith("error: ") and err.count("\n") == 1, err
    assert "space" in err and list(tmp_path.iterdir()) == []


class TestMagicTalk:
    """``--system magic-talk``; what it draws is tested with the render."""

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            (
                ["--strength", "0.5"],
                "--strength is the diffusion's, and emodiff was asked for; add --system magic-talk",
            ),
            (["--identity-weight", "0.5"], "--identity-weight is the diffusion's"),
            (["--contour", "head.png"], "--contour is the diffusion's"),
            (["--system", "magic-talk", "--strength", "1.5"], "should be less than or equal to 1"),
            (["--system", "magic-talk", "--steps", "0"], "should be greater than or equal to 1"),
            (["--system", "magic-talk", "--prompt", " "], "prompt is empty"),
            (["--system", "magic-talk", "--prompt", "0s a man; 0s a woman"], "expected times rising from 0"),
            (["--system", "magic-talk", "--prompt", "a man; 4s a woman"], "prompt 'a man' has no time"),
            (["--system", "magic-talk", "--emotion", "happy"], "variational was asked for"),
            (["--system", "magic-talk", "--weights", "nowhere"], "no folder of weights at nowhere; fetch them"),
            (["--system", "magic-talk", "--blend", "0.5"], "--blend is portrait-talk's, and magic-talk was asked for"),
            (["--system", "magic-talk", "--portrait", "b.png"], "--portrait is portrait-talk's"),
            (["--system", "portrait-talk", "--contour", "b.png"], "--contour is magic-talk's, and portrait-talk was"),
            (
                ["--system", "magic-talk", "--anchor", "0.5"],
                "--anchor is portrait-talk and mcdm's, and magic-talk was asked for",
            ),
            (["--system", "portrait-talk", "--blend", "0.5"], "blend mixes two people, and there is one picture"),
            (["--system", "portrait-talk", "--blend", "2", "--portrait", "b.png"], "expected a share from 0 to 1"),
            (["--portrait", "b.png"], "--portrait is the diffusion's, and emodiff was asked for"),
            (["--system", "mcdm2"], "'mcdm2' is not one of"),
            (["--alpha", "0.5"], "--alpha is the diffusion's, and emodiff was asked for; add --system mcdm"),
            (["--system", "mcdm", "--alpha", "1.5"], "should be less than or equal to 1"),
            (["--system", "mcdm", "--prompt", "a man"], "mcdm draws what the portrait shows and looks at no prompt"),
            (["--system", "mcdm", "--weights", "w"], "--weights is magic-talk and portrait-talk's, and mcdm was asked"),
            (["--system", "mcdm", "--contour", "b.png"], "--contour is magic-talk's, and mcdm was asked for"),
            (["--system", "magic-talk", "--alpha", "0.5"], "--alpha is mcdm's, and magic-talk was asked for"),
            (["--system", "mcdm", "--emotion", "happy"], "mcdm was asked for; choose one"),
        ],
    )
    def test_bad_options(self, fails, files, tmp_path, options, says):
        fails("animate", files / "face.png", files / "hello.wav", *options, "-o", tmp_path / "out.mp4", says=says)

    def test_it_speaks_offline(self, run, files, tmp_path):
        if "magic-talk-reference" not in weights.names():
            pytest.skip("its weights are not in the package")
        out = tmp_path / "out.mp4"
        options = ["--steps", "4", "--duration", "0.4", "--prompt", "a black and white photograph of a person"]
        code, said, err = run("animate", files / "face.png", files / "hello.wav", "--system", "magic-talk", *options,
                              "-o", out)  # fmt: skip
        assert (code, said, err) == (0, f"{out}\n", "")
        frames = list(read_frames(out))
        assert len(frames) == 10 and frames[0].shape == (128, 128, 3)
        assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]
