"""A clip read once: in bounded memory, in pieces, and with every figure either computed or explained."""

import math
import weakref
from itertools import islice

import cv2
import numpy as np
import pytest
from skimage import data

import magictalk
from magictalk import Speech
from magictalk.errors import WeightsError
from magictalk.metrics import reading
from magictalk.metrics.footage import CHUNK, Footage
from magictalk.metrics.reading import Person, Reader
from magictalk.metrics.rules import RULES, Asked, Look, Piece, Whole
from magictalk.metrics.scoring import Scorer, Scores


@pytest.fixture(scope="module")
def talk(astronaut) -> Footage:
    """The astronaut says a sentence, 160 x 160."""
    head = cv2.resize(astronaut[0:288, 80:368], (160, 160), interpolation=cv2.INTER_AREA)
    speech = Speech.say("Bob may buy papers.")
    frames = list(magictalk.animate(head, speech, drive="audio2bs").frames())
    return Footage("talk", lambda: iter(frames), speech)


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return Scorer()


def test_every_figure_is_computed_where_all_is_there(talk, weights):
    scorer = Scorer(weights)
    scores = scorer(talk, talk, asked=Asked("a b", "happy", [(0.2, 0.3)]))
    figures = {f.figure: f for f in scorer.figures([scores, scores])}
    assert [rule.figure for rule in RULES] == list(figures)
    without = {name for name, f in figures.items() if math.isnan(f.value)}
    # no network of SyncNet's size is made for a test; the sentence is short, without a pause, maybe without a blink
    never = {"LSE-D", "LSE-C", "identity drift"}
    assert never <= without <= never | {"silent lips", "blink length", "head spectrum"}
    perfect = {"FID": 0, "FVD": 0, "E-FID (ARKit)": 0, "LPIPS": 0, "SSIM": 1, "ADFD": 1, "PSNR": np.inf}
    for name, best in perfect.items():
        assert figures[name].value == pytest.approx(best, abs=1e-3), name
    assert figures["Face-sim (dlib)"].n == 2


def test_without_anything_reasons_say_what_is_needed(talk, scorer):
    mute = Footage("mute", talk.frames)
    reasons = {f.figure: f.reason for f in scorer.figures([scorer(mute)])}
    assert "--reference" in reasons["PSNR"] and "--reference" in reasons["E-FID (ARKit)"]
    assert "--portrait" in reasons["Face-sim (dlib)"] and "--phonemes" in reasons["bilabial closure"]
    assert "sound" in reasons["Sync-D (magictalk)"] and "sound" in reasons["silent lips"]
    assert "get it with" in reasons["FID"] and "get it with" in reasons["LSE-C"]
    assert not reasons["CPBD"] and not reasons["flicker"] and not reasons["blinks"]
    assert reasons["identity drift"] == "no clip gave a value"  # it is too short


def test_a_picture_of_the_person_is_enough_for_identity(talk, scorer, astronaut):
    person = Person.of(magictalk.Portrait.from_array(astronaut))
    assert scorer(talk, person=person).values["Face-sim (dlib)"] > 0.93


def test_a_video_without_a_face_is_judged_by_its_pictures(scorer):
    cups = np.ascontiguousarray(data.coffee()[:160, :160])
    scores = scorer(Footage("cups", lambda: iter([cups] * 20), Speech.from_array(np.zeros(12800), 16000)))
    assert scores.values["faces lost"] == 1 and scores.values["CPBD"] > 0
    assert "face" in scores.missing["blinks"] and "face" in scores.missing["Sync-C (magictalk)"]


def test_frames_without_a_face_are_counted_and_left_out(talk, scorer):
    frames = list(talk.frames())
    gone = [np.zeros_like(f) if 6 <= t < 16 else f for t, f in enumerate(frames)]
    scores = scorer(Footage("gone", lambda: iter(gone), talk.speech), talk)
    assert scores.values["faces lost"] == pytest.approx(10 / len(frames), abs=0.07)
    assert scores.values["F-LMD"] < 1


def test_long_videos_are_read_in_pieces_and_bounded_memory(talk, monkeypatch):
    monkeypatch.setattr(reading, "PIECE", 4 * CHUNK)
    length, alive, most = 10 * CHUNK + 3, [0], [0]
    kept = list(talk.frames())[:8]

    def gone() -> None:
        alive[0] -= 1

    def frames():
        for t in range(length):
            frame = kept[t % len(kept)].copy()
            alive[0] += 1
            most[0] = max(most[0], alive[0])
            weakref.finalize(frame, gone)
            yield frame

    speech = Speech.from_array(np.zeros(length * 640 + 300, np.float32), 16000)
    reader = Reader(5, {}, {})
    views, pieces, looks = [], [], 0
    for view in reader(Footage("long", frames, speech), None, None, Asked(spans=[(0.1, 0.2), (3.0, 3.1)]), pytest.fail):
        views.append(type(view))
        looks += isinstance(view, Look)
        if isinstance(view, Piece):
            pieces.append((view.start, len(view.landmarks), len(view.samples), view.spans))
    assert views[-1] is Whole and looks == 11
    assert [p[:3] for p in pieces] == [(0, 64, 40960), (2.56, 64, 40960), (5.12, 35, 22400)]
    assert pieces[0][3] == [(0.1, 0.2)] and pieces[1][3] == [pytest.approx((0.44, 0.54))] and pieces[2][3] == []
    assert most[0] < 3 * CHUNK


def test_the_tracker_has_settled_when_the_clip_begins(talk):
    frames = [next(iter(talk.frames()))] * 20
    meshes = Reader(5, {}, {}).track(Footage("still", lambda: iter(frames)))
    assert meshes.shape == (20, 478, 3) and np.abs(np.diff(meshes[..., :2], axis=0)).mean((1, 2)).max() < 0.2


@pytest.mark.parametrize(("rest", "lengths"), [(0, [64, 64]), (9, [64, 73]), (10, [64, 64, 10])])
def test_a_short_rest_joins_the_piece_before_it(talk, monkeypatch, rest, lengths):
    monkeypatch.setattr(reading, "PIECE", 4 * CHUNK)
    frame = next(iter(talk.frames()))
    length = 8 * CHUNK + rest
    speech = Speech.from_array(np.zeros(length * 640, np.float32), 16000)
    footage = Footage("long", lambda: (frame for _ in range(length)), speech)
    views = Reader(50, {}, {})(footage, None, None, Asked(), pytest.fail)
    pieces = [v for v in views if isinstance(v, Piece)]
    assert [len(p.landmarks) for p in pieces] == lengths
    assert [len(p.samples) for p in pieces] == [640 * n for n in lengths]
    assert [p.start for p in pieces] == pytest.approx([sum(lengths[:i]) / 25 for i in range(len(lengths))])


def test_a_judge_gets_every_piece_s_own_frames(talk, monkeypatch):
    monkeypatch.setattr(reading, "PIECE", 2 * CHUNK)
    seen = []

    class Judge:
        def of_frames(self, frames, landmarks, samples):
            first = next(frames)  # and leaves the rest
            seen.append((len(landmarks), len(samples), int(first[0, 0, 0])))
            return None

    frames = [frame.copy() for frame in talk.frames()][: 5 * CHUNK]
    for t, frame in enumerate(frames):
        frame[0, 0, 0] = t
    footage = Footage("talk", lambda: iter(frames), talk.speech)
    list(Reader(5, {}, {"judge": Judge()})(footage, None, None, Asked(), pytest.fail))
    assert [s[2] for s in seen] == list(range(0, len(frames), 2 * CHUNK))[: len(seen)] and len(seen) >= 1
    assert all(samples == length * 640 for length, samples, _ in seen[:-1])


def test_a_missing_folder_of_weights_is_an_error(tmp_path):
    with pytest.raises(WeightsError, match="no folder of weights"):
        Scorer(tmp_path / "nothing")


def test_frechet_distances_count_clips_with_features_and_say_what_they_lack(talk, scorer):
    cups = np.ascontiguousarray(data.coffee()[:160, :160])
    faceless = Footage("cups", lambda: iter([cups] * 10))

    def figure(*clips):
        return next(f for f in scorer.figures(clips) if f.figure == "E-FID (ARKit)")

    with_face, without = scorer(talk, talk), scorer(faceless, faceless)
    assert figure(with_face, without).n == 1 and figure(with_face, without).value == pytest.approx(0, abs=1e-6)
    assert figure(without).reason.startswith("needs more frames on either side: two") and figure(without).n == 0
    assert figure(scorer(faceless)).reason == "needs the real video (--reference)"


def test_last_frames_without_one_to_look_at_change_nothing(talk, weights):
    scorer = Scorer(weights)

    def judged(length: int) -> Scores:
        frames = list(islice(talk.frames(), length))
        footage = Footage("short", lambda: iter(frames))
        return scorer(footage, footage, asked=Asked("a b"))

    whole, longer = judged(CHUNK), judged(CHUNK + 3)  # frames 16 to 18; 15 and 20 are looked at
    assert longer.features["FID"] == pytest.approx(whole.features["FID"], abs=1e-5)
    for name in ("SSIM", "LPIPS", "CPBD", "DINO", "CLIP-T", "flicker"):
        assert longer.values[name] == pytest.approx(whole.values[name], rel=1e-4, abs=1e-5), name
