from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magictalk.data.identities import THRESHOLD, Conflict, assign, conflicts
from magictalk.data.table import ClipRecord


def _person(number: int) -> np.ndarray:
    """An embedding far from all others."""
    return 2 * np.eye(128, dtype=np.float32)[number]


def _clip(key: str, source: str | None = None, **known: str) -> ClipRecord:
    return ClipRecord(key, source or f"{key}.mp4", **known)


PEOPLE = st.integers(0, 5)
CLIPS = st.lists(
    st.tuples(
        PEOPLE,  # who is seen
        st.integers(0, 6),  # in which source
        st.sampled_from(["", "", "anna", "bo"]),  # the manifest's identity
        st.sampled_from(["", "", "", "train", "test", "style"]),
        st.booleans(),  # recognised
        st.sampled_from(["kept", "kept", "kept", "dropped"]),
    ),
    max_size=25,
)


def _make(clips: list[tuple[int, int, str, str, bool, str]]) -> tuple[list[ClipRecord], dict[str, np.ndarray]]:
    records, embeddings = [], {}
    for i, (person, source, identity, split, recognised, status) in enumerate(clips):
        key = f"c{i:02d}"
        records.append(ClipRecord(key, f"s{source}.mp4", start=float(i), identity=identity, split=split, status=status))
        embeddings[key] = _person(person) if recognised else np.full(128, np.nan, np.float32)
    return records, embeddings


@settings(max_examples=150, deadline=None)
@given(CLIPS, st.integers(0, 3), st.randoms())
def test_nobody_is_in_two_splits_whatever_the_order(clips: list, seed: int, random: object) -> None:
    records, embeddings = _make(clips)
    assigned = assign(records, embeddings, seed)
    assert [r.key for r in assigned] == [r.key for r in records]
    splits = defaultdict(set)
    for before, after in zip(records, assigned, strict=True):
        assert not before.identity or after.identity == before.identity
        assert replace(after, identity=before.identity, split=before.split) == before
        if after.kept:
            assert after.identity and after.split
        if after.identity:
            splits[after.identity].add(after.split)
    assert all(len(several) == 1 for several in splits.values())
    shuffled = list(records)
    random.shuffle(shuffled)
    again = {r.key: r for r in assign(shuffled, embeddings, seed)}
    assert again == {r.key: r for r in assigned}
    assert assign(assigned, embeddings, seed) == assigned


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(PEOPLE, st.integers(0, 6)), min_size=1, max_size=25))
def test_people_are_told_apart_and_found_again(seen: list[tuple[int, int]]) -> None:
    records, embeddings = _make([(person, source, "", "", True, "kept") for person, source in seen])
    names = {r.key: r.identity for r in assign(records, embeddings)}
    who = defaultdict(set)
    for record, (person, _) in zip(records, seen, strict=True):
        who[names[record.key]].add(person)
    assert all(len(several) == 1 for several in who.values())
    assert len(who) == len({person for person, _ in seen})
    assert set(who) == {f"person-{i + 1:04d}" for i in range(len(who))}


def test_names_count_by_source_and_leave_out_those_taken() -> None:
    records = [_clip("b"), _clip("a"), _clip("c", identity="person-0002")]
    embeddings = {r.key: _person(i) for i, r in enumerate(records)}
    assert [r.identity for r in assign(records, embeddings)] == ["person-0003", "person-0001", "person-0002"]


def test_an_unknown_clip_joins_the_named_person_it_resembles() -> None:
    records = [_clip("a", identity="anna", split="test"), _clip("b"), _clip("c")]
    near, far = _person(0).copy(), _person(0).copy()
    near[1], far[1] = THRESHOLD - 0.02, THRESHOLD + 0.02
    assigned = assign(records, {"a": _person(0), "b": near, "c": far})
    assert [(r.identity, r.split) for r in assigned[:2]] == [("anna", "test")] * 2
    assert assigned[2].identity == "person-0001"


def test_a_clip_that_shows_nobody_clearly_belongs_to_its_source() -> None:
    records = [_clip("a", "s"), _clip("b", "s"), _clip("c", "t"), _clip("d", "t")]
    embeddings = {"b": _person(0), "c": np.full(128, np.nan)}
    assert [r.identity for r in assign(records, embeddings)] == ["person-0001"] * 2 + ["person-0002"] * 2


def test_of_several_given_splits_the_one_kept_from_training_counts() -> None:
    records = [
        *(_clip(f"a{s}", identity="anna", split=s) for s in ("train", "val")),
        *(_clip(f"b{s}", identity="bo", split=s) for s in ("val", "test", "train")),
        *(_clip(f"c{s}", identity="cy", split=s) for s in ("train", "style")),
    ]
    splits = {r.identity: r.split for r in assign(records, {})}
    assert splits == {"anna": "val", "bo": "test", "cy": "style"}


def test_a_dropped_clip_keeps_what_is_given_and_is_not_recognised() -> None:
    records = [_clip("a", identity="anna"), replace(_clip("b"), status="dropped", split="val")]
    assert assign(records, {"a": _person(0), "b": _person(0)})[1] == records[1]


@pytest.mark.parametrize("people", [1, 2, 3, 4, 20])
def test_with_three_people_no_split_stays_empty(people: int) -> None:
    records = [_clip(f"c{i:02d}") for i in range(people)]
    embeddings = {r.key: _person(i) for i, r in enumerate(records)}
    for seed in range(30):
        splits = {r.split for r in assign(records, embeddings, seed)}
        assert splits <= {"train", "val", "test"}
        assert people < 3 or len(splits) == 3


def test_shares_are_nine_tenths_and_twice_a_twentieth() -> None:
    records = [_clip(f"c{i}", identity=f"p{i}") for i in range(4000)]
    splits = [r.split for r in assign(records, {})]
    assert abs(splits.count("train") / 4000 - 0.9) < 0.015
    assert abs(splits.count("val") / 4000 - 0.05) < 0.01 and abs(splits.count("test") / 4000 - 0.05) < 0.01
    assert splits != [r.split for r in assign(records, {}, seed=1)]


def test_videos_added_later_move_nobody() -> None:
    before = [_clip(f"c{i:02d}", identity=f"p{i}" if i % 2 else "") for i in range(40)]
    embeddings = {r.key: _person(i) for i, r in enumerate(before)}
    old = {r.key: r.split for r in assign(before, embeddings)}
    more = [_clip(f"b{i:02d}") for i in range(40)]
    embeddings |= {r.key: _person(40 + i) for i, r in enumerate(more)}
    new = {r.key: r.split for r in assign(more + before, embeddings)}
    assert {key: new[key] for key in old} == old


def test_one_face_in_two_splits_is_reported() -> None:
    near = _person(0).copy()
    near[1] = 0.3
    records = [
        _clip("a", identity="anna", split="train"),
        _clip("b", identity="anne", split="test"),
        _clip("c", identity="ann", split="train"),
        _clip("d", identity="bo", split="val"),
        _clip("e", identity="cy", split="train"),
        _clip("f", identity="cy", split="val"),
    ]
    embeddings = {"a": _person(0), "b": near, "c": _person(0), "d": _person(1), "e": _person(2), "f": _person(2)}
    found = conflicts(records, embeddings)
    assert found[0] == Conflict("cy", "cy", ("train", "val"), 0.0)
    assert [(c.first, c.second, c.splits) for c in found[1:]] == [
        ("ann", "anne", ("train", "test")),
        ("anna", "anne", ("train", "test")),
    ]
    assert found[1].distance == pytest.approx(0.3)
    assert conflicts(assign(records, embeddings), embeddings) == found[1:]
    assert conflicts([], {}) == []


def test_real_people_are_found_again(shared: Path) -> None:
    from magictalk.face.landmarks import FaceDetector
    from magictalk.face.recognition import FaceRecogniser
    from magictalk.video import read_frames

    sources = {
        "web/styletalk__Obama_clip1.mkv": "Obama",
        "web/styletalk__Obama_clip2.mkv": "Obama",
        "web/styletalk__andrew_clip_1.mkv": "andrew",
        "web/styletalk__andrew_clip_2.mkv": "andrew",
        "noncommercial/talkvid__Age_60_plus_2.mp4": "woman",
        "open/grid_s1/bbaf5a.mp4": "grid",
        "open/grid_s1/bbal8p.mp4": "grid",
    }
    detector, recogniser = FaceDetector(), FaceRecogniser()
    embeddings = {}
    for name in sources:
        frames = [frame for i, frame in enumerate(read_frames(shared / "videos" / name, duration=2.4)) if i % 20 == 0]
        embeddings[name] = np.mean([recogniser(f, detector(f)[0].landmarks) for f in frames], 0)
    named = {r.key: r.identity for r in assign([_clip(name, name) for name in sources], embeddings)}
    pairs = {(named[a] == named[b]) == (sources[a] == sources[b]) for a in sources for b in sources}
    assert pairs == {True}
