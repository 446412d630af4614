"""``magictalk data build``: what it prints, and what it says to whom it cannot help. (The work: test_build.py.)"""

import re

import pytest

from magictalk.app.cli import main


def run(capsys, *arguments):
    """Exit code, standard output, standard error."""
    with pytest.raises(SystemExit) as exit_:
        main(["data", *map(str, arguments)])
    out, err = capsys.readouterr()
    return exit_.value.code, out, err


@pytest.fixture
def raw(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.mp4").touch()
    return tmp_path / "raw"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "500"], "size is 500; expected a multiple of 16"),
        (["--min-sharpness", "3"], "min_sharpness is 3.0; expected 0 to 1"),
        (["--manifest", "m.csv", "--no-manifest"], "contradict each other"),
        (["--sync-model", "x", "--no-sync"], "contradict each other"),
        (["--quality-model", "x.pt"], "belong together"),
        (["--manifest", "none.csv"], "none.csv cannot be read as a manifest"),
        (["--sync-model", "nowhere"], "nowhere"),
        (["--no-sync", "--quality-model", "none.pt", "--min-quality", "1"], "no file at"),
        (["--workers", "0"], "--workers"),
    ],
)
def test_wrong_options_are_told_in_one_line(capsys, tmp_path, raw, options, message):
    code, _, err = run(capsys, "build", raw, "-o", tmp_path / "d", *options)
    assert code == 2 and message in err and err.count("\n") == 1 and err.startswith("error: ")
    assert not (tmp_path / "d").exists()


def test_no_videos(capsys, tmp_path):
    (tmp_path / "empty").mkdir()
    for place, message in (("empty", "no video in"), ("nowhere", "no file or folder at")):
        code, _, err = run(capsys, "build", tmp_path / place, "-o", tmp_path / "d")
        assert code == 2 and message in err


def test_a_folder_in_use_for_something_else(capsys, raw):
    code, _, err = run(capsys, "build", raw, "-o", raw, "--no-sync")
    assert code == 2 and "not empty and holds no dataset" in err


def test_nothing_usable_is_a_dataset_of_nothing_with_reasons(capsys, tmp_path, raw):
    (tmp_path / "manifest.csv").write_text("file,split\nraw/a.mp4,val\n")
    command = ["data", "build", str(raw), "-o", str(tmp_path / "d"), "--no-sync", "--workers", "1"]
    main(command)
    out = capsys.readouterr().out
    assert out.startswith(f"1 video; {tmp_path / 'manifest.csv'} describes 1 of them")
    assert re.search(r"clips\s*│\s*0", out) and "is empty" in out and out.rstrip().endswith(str(tmp_path / "d"))
    main(command)
    assert "complete already; nothing to do" in capsys.readouterr().out
    main([*command[:4], str(tmp_path / "e"), *command[5:], "--no-manifest"])
    assert capsys.readouterr().out.startswith("1 video, no manifest")


def test_alone_it_prints_its_help(capsys):
    main(["data"])
    out, err = capsys.readouterr()
    assert "build" in out and not err


def test_each_folder_has_its_own_manifest(capsys, tmp_path):
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.mp4").touch()
        (tmp_path / name / "manifest.csv").write_text(f"file,identity\n{name}.mp4,{name}\n")
    command = ["build", tmp_path / "x", tmp_path / "y", "-o", tmp_path, "--no-sync"]
    _, out, _ = run(capsys, *command)
    assert out.startswith("2 videos; ") and "describe 2 of them" in out and out.count("manifest.csv") == 2


def test_an_unusable_manifest_that_nobody_gave_can_be_left_out(capsys, tmp_path, raw):
    (raw / "manifest.csv").write_text("name\na.mp4\n")
    _, _, err = run(capsys, "build", raw, "-o", tmp_path / "d")
    assert "expected one named file" in err and "--no-manifest" in err and err.count("\n") == 1
    _, _, err = run(capsys, "build", raw, "-o", tmp_path / "d", "--manifest", raw / "manifest.csv")
    assert "--no-manifest" not in err


def test_the_time_it_took_is_told_only_of_work_done_at_one_go(capsys, tmp_path, shared):
    video = min((shared / "videos").rglob("*.mp4"), key=lambda p: p.stat().st_size)
    command = ["data", "build", str(video), "-o", str(tmp_path / "d"), "--no-sync", "--no-manifest", "--workers", "1"]
    for told in (True, False):
        main(command)
        assert ("time per minute" in capsys.readouterr().out) == told
