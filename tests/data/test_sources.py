"""Raw videos are found, named and described, the same way every time."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from magictalk.data.sources import ManifestError, find_manifest, find_sources, unique_keys
from magictalk.errors import DatasetError


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_videos_at_any_depth_sorted_without_hidden_ones_or_other_files(tmp_path):
    touch(tmp_path, "b/two.MP4", "a.webm", "b/c/one.mov", "notes.txt", ".hidden.mp4", ".cache/x.mp4", "b/._two.mp4")
    found = find_sources([tmp_path])
    assert [s.name for s in found] == ["a.webm", "b/c/one.mov", "b/two.MP4"]
    assert [s.key for s in found] == ["a", "b_c_one", "b_two"]
    assert not any(s.identity or s.split or s.language for s in found)


def test_several_folders_and_files_are_named_from_where_they_meet_and_each_file_counts_once(tmp_path):
    touch(tmp_path, "x/a.mp4", "y/a.mp4", "z/b.mp4")
    found = find_sources([tmp_path / "x", tmp_path / "y", tmp_path / "z" / "b.mp4", tmp_path / "x" / "a.mp4"])
    assert [s.name for s in found] == ["x/a.mp4", "y/a.mp4", "z/b.mp4"]
    assert [s.name for s in find_sources([tmp_path / "z" / "b.mp4"])] == ["b.mp4"]


def test_links_keep_their_names_and_may_lead_in_circles(tmp_path):
    touch(tmp_path, "store/one.mp4")
    (tmp_path / "raw" / "deep").mkdir(parents=True)
    (tmp_path / "raw" / "linked.mp4").symlink_to(tmp_path / "store" / "one.mp4")
    (tmp_path / "raw" / "twice.mp4").symlink_to(tmp_path / "store" / "one.mp4")
    (tmp_path / "raw" / "deep" / "circle").symlink_to(tmp_path / "raw")
    assert [s.name for s in find_sources([tmp_path / "raw"])] == ["linked.mp4"]
    (tmp_path / "manifest.csv").write_text("file,identity\nstore/one.mp4,ann\n")
    assert [s.identity for s in find_sources([tmp_path / "raw"], tmp_path / "manifest.csv")] == ["ann"]


@pytest.mark.parametrize("name", ["", "nowhere", "words.txt"])
def test_nothing_to_find(tmp_path, name):
    touch(tmp_path, "empty/readme.txt")
    with pytest.raises(DatasetError, match=r"no video in|no file or folder"):
        find_sources([tmp_path / "empty" / name])


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1).map("d/{}.mp4".format)))
def test_keys_are_fit_for_archives_and_unique(names):
    names = sorted(set(names))
    keys = unique_keys(names)
    assert len(set(keys)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,90}", key) for key in keys)
    assert keys == unique_keys(names)


def test_manifest_describes_the_videos_it_lists(tmp_path):
    touch(tmp_path, "videos/a.mp4", "videos/b.mp4")
    (tmp_path / "manifest.csv").write_text(
        "kind,file,split,identity,language,licence_class,sync\n"
        "video,videos/a.mp4,val,Ann,en?,open,ok\nspeech,videos/b.mp4,train,Bob,de,web,ok\n",
        "utf-8-sig",
    )
    found = find_manifest([tmp_path / "videos"])
    assert found == tmp_path / "manifest.csv" == find_manifest([tmp_path])
    a, b = find_sources([tmp_path / "videos"], found)
    assert (a.identity, a.split, a.language, a.licence) == ("Ann", "val", "en", "open")
    assert (b.identity, b.split, b.language, b.licence) == ("", "", "", "")  # that row is of another kind
    assert find_manifest([tmp_path / "videos" / "a.mp4"]) == found


def test_several_manifests_add_up_and_the_first_one_counts(tmp_path):
    touch(tmp_path, "x/a.mp4", "y/b.mp4")
    (tmp_path / "x" / "manifest.csv").write_text("file,identity\na.mp4,ann\n")
    (tmp_path / "y" / "manifest.csv").write_text("file,identity\nb.mp4,bob\n../x/a.mp4,zoe\n")
    found = find_sources([tmp_path], tmp_path / "x" / "manifest.csv", tmp_path / "y" / "manifest.csv")
    assert [s.identity for s in found] == ["ann", "bob"]


@pytest.mark.parametrize(
    ("content", "message"),
    [("name,split\na.mp4,train\n", "expected one named file"), ("file,split\na.mp4,../x\n", "split named '../x'")],
)
def test_malformed_manifest(tmp_path, content, message):
    touch(tmp_path, "a.mp4")
    (tmp_path / "list.csv").write_text(content)
    with pytest.raises(ManifestError, match=message):
        find_sources([tmp_path], tmp_path / "list.csv")
    with pytest.raises(ManifestError, match="cannot be read as a manifest"):
        find_sources([tmp_path], tmp_path / "none.csv")


def test_the_real_manifest(shared):
    sources = find_sources([shared / "videos"], find_manifest([shared / "videos"]))
    assert len(sources) == 441 and len({s.key for s in sources}) == 441
    assert all(s.identity and s.split and s.licence for s in sources)
    assert {s.split for s in sources} == {"train", "val", "test", "style"}
