"""Does each figure move the right way? A real talking clip against itself, and against versions of it that are spoilt.

The clip is a speaker of the GRID corpus where the data folder is there; else the astronaut, made to talk.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest

import magictalk
from magictalk import Speech
from magictalk.face.landmarks import FaceTracker
from magictalk.face.rig import inner_lip_gap
from magictalk.metrics.footage import Footage
from magictalk.metrics.functional.identity import drift
from magictalk.metrics.movement import PARTS
from magictalk.metrics.rules import RULES, Asked
from magictalk.metrics.scoring import Scorer, Scores, together
from magictalk.motion import ARKIT, Motion
from magictalk.video import read_frames

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "videos" / "open"
RATE, LATE = 16000, 5
"""Samples a second, and the frames (0.2 s) by which things are late."""

Clip = tuple[list[np.ndarray], np.ndarray]
"""Frames, and samples at 16 kHz."""


def from_grid(name: str) -> Clip:
    path = DATA / name
    return [square(frame) for frame in read_frames(path)], Speech.open(path).samples()


def square(frame: np.ndarray) -> np.ndarray:
    side = min(frame.shape[:2])
    top, left = (np.array(frame.shape[:2]) - side) // 2
    return cv2.resize(frame[top : top + side, left : left + side], (288, 288), interpolation=cv2.INTER_AREA)


@pytest.fixture(scope="module")
def real(astronaut) -> Clip:
    if DATA.is_dir():
        return from_grid("grid_s1/bbaf5a.mp4")
    speech = Speech.say("Pay the bill, Bob, and put more papers by the pump.")
    head = np.ascontiguousarray(astronaut[0:288, 80:368])
    return list(magictalk.animate(head, speech, drive="audio2bs").frames()), speech.samples()


def same(clip: Clip) -> Clip:
    return clip


def sound_late(clip: Clip) -> Clip:
    frames, samples = clip
    return frames, np.concatenate([np.zeros(LATE * 640, np.float32), samples])[: len(samples)]


def picture_late(clip: Clip) -> Clip:
    frames, samples = clip
    return [frames[0]] * LATE + frames[:-LATE], samples


def blurred(clip: Clip) -> Clip:
    frames, samples = clip
    return [cv2.GaussianBlur(frame, (0, 0), 2.0) for frame in frames], samples


def frozen(clip: Clip) -> Clip:
    frames, samples = clip
    return [frames[0]] * len(frames), samples


def twice_as_fast(clip: Clip) -> Clip:
    frames, samples = clip
    return frames[::2], samples


def turns_blue(clip: Clip) -> Clip:
    frames, samples = clip
    weights = np.linspace(0, 1, len(frames))[:, None, None, None] * [[[-60, -20, 60]]]
    return [(frame + w).clip(0, 255).astype(np.uint8) for frame, w in zip(frames, weights, strict=True)], samples


def silenced(clip: Clip) -> Clip:
    frames, samples = clip
    spoken = np.abs(samples) > 0.1 * np.abs(samples).max()
    first, last = np.flatnonzero(spoken)[[0, -1]]
    quiet = slice(first + (last - first) // 3, last)
    return frames, np.concatenate([samples[: quiet.start], np.zeros(quiet.stop - quiet.start), samples[last:]])


def agape(clip: Clip) -> Clip:
    frames, _ = clip
    track = FaceTracker()
    widest = int(inner_lip_gap(np.stack([track(frame).landmarks for frame in frames])).argmax())
    return [frames[widest]] * len(frames), silenced(clip)[1]


def flickers(clip: Clip) -> Clip:
    frames, samples = clip
    return [(frame.astype(int) + 8 * (t % 2)).clip(0, 255).astype(np.uint8) for t, frame in enumerate(frames)], samples


def somebody_else(clip: Clip) -> Clip:
    if not DATA.is_dir():
        pytest.skip("needs a second person: the data folder ../shared/data")
    frames, _ = from_grid("grid__ansh_b7d7e7a1.mp4")
    return [frames[min(t, len(frames) - 1)] for t in range(len(clip[0]))], clip[1]


@pytest.fixture(scope="module")
def scored(real) -> Callable[[Callable[[Clip], Clip]], Scores]:
    scorer = Scorer()

    def footage(clip: Clip) -> Footage:
        return Footage("clip", lambda: iter(clip[0]), Speech.from_array(clip[1], RATE))

    somewhere = Asked(spans=[(0.0, len(real[0]) / 25)])
    return cache(lambda spoil: scorer(footage(spoil(real)), footage(real), asked=somewhere))


def value(scores: Scores, figure: str) -> float:
    rule = next(rule for rule in RULES if rule.figure == figure)
    if rule.of is None:
        return together(rule, [scores.features], [scores.real_features])
    if figure == "identity drift":
        return drift(scores.likeness, fps=1)  # as if the clip were slow enough to be long enough
    return scores.values[figure]


PERFECT = {
    "PSNR": np.inf, "SSIM": 1.0, "E-FID (ARKit)": 0.0, "M-LMD": 0.0, "F-LMD": 0.0, "ADFD": 1.0, "faces lost": 0.0,
    "lip gap": 1.0, "mouth width": 1.0, "jaw drop": 1.0, "head spectrum": 0.0,
    **{f"{part} speed": 1.0 for part in PARTS}, **{f"{part} speed W1": 0.0 for part in PARTS},
}  # fmt: skip


@pytest.mark.parametrize("figure", PERFECT)
def test_a_video_against_itself_is_perfect(scored, figure):
    assert value(scored(same), figure) == pytest.approx(PERFECT[figure], abs=1e-6)


def test_a_video_against_itself_shows_the_same_person_and_no_offset(scored):
    assert value(scored(same), "Face-sim (dlib)") > 0.97
    assert value(scored(same), "A/V offset") <= 0.08


WORSE = {
    sound_late: ["A/V offset"],
    picture_late: [
        "PSNR",
        "SSIM",
        "M-LMD",
        "F-LMD",
        "ADFD",
        "A/V offset",
        "lip gap",
        "mouth width",
        "jaw drop",
    ],
    blurred: ["PSNR", "SSIM", "CPBD"],
    frozen: [
        "PSNR",
        "SSIM",
        "M-LMD",
        "F-LMD",
        "ADFD",
        "E-FID (ARKit)",
        "Sync-C (magictalk)",
        "Sync-D (magictalk)",
        "head spectrum",
        "brow speed W1",
        "lid speed W1",
        "head speed W1",
    ],
    twice_as_fast: ["lip gap", "brow speed W1", "head speed W1"],
    turns_blue: ["PSNR", "SSIM", "identity drift"],
    flickers: ["PSNR", "flicker"],
    agape: ["bilabial closure"],
    somebody_else: [
        "lip gap",
        "jaw drop",
        "PSNR",
        "SSIM",
        "F-LMD",
        "M-LMD",
        "ADFD",
        "E-FID (ARKit)",
        "Face-sim (dlib)",
        "Sync-C (magictalk)",
    ],
}
"""What each spoilt version makes worse."""

UNMOVED = {
    sound_late: ["PSNR", "SSIM", "M-LMD", "F-LMD", "ADFD", "E-FID (ARKit)", "CPBD", "blinks", "Face-sim (dlib)"],
    flickers: ["CPBD", "head speed"],
    turns_blue: ["lip gap", "jaw drop"],
}
"""What they leave alone, within a tenth."""


def cases(table):
    return [pytest.param(spoil, figure, id=f"{spoil.__name__}-{figure}") for spoil in table for figure in table[spoil]]


@pytest.mark.parametrize(("spoil", "figure"), cases(WORSE))
def test_what_is_spoilt_scores_worse(scored, spoil, figure):
    higher = next(rule.kind.higher_is_better for rule in RULES if rule.figure == figure)
    good, bad = value(scored(same), figure), value(scored(spoil), figure)
    least = 0.02 * abs(good) if np.isfinite(good) else 0
    assert (good - bad if higher else bad - good) > least, (good, bad)


@pytest.mark.parametrize(("spoil", "figure"), cases(UNMOVED))
def test_what_is_not_touched_stays(scored, spoil, figure):
    good, other = value(scored(same), figure), value(scored(spoil), figure)
    assert other == pytest.approx(good, rel=0.1, abs=1e-6)


def test_a_late_sound_is_found_to_be_late_by_as_much(scored):
    assert value(scored(sound_late), "A/V offset") == pytest.approx(LATE / 25, abs=0.08)


def test_a_frozen_face_neither_blinks_nor_flickers(scored):
    assert value(scored(frozen), "blinks") == 0 and value(scored(frozen), "flicker") == pytest.approx(0, abs=1e-6)


def test_a_frozen_face_has_no_speed_and_a_fast_one_more(scored):
    for part in PARTS:
        assert value(scored(frozen), f"{part} speed") < 0.05
    # smoothed over 0.08 s, of twice the speed not all is seen
    for part in ("brow", "head"):
        assert 1.15 < value(scored(twice_as_fast), f"{part} speed") < 2.1


def test_lips_that_talk_in_silence_score_worse_than_lips_at_rest(scored):
    assert value(scored(agape), "silent lips") == pytest.approx(0, abs=1e-3)
    assert value(scored(silenced), "silent lips") > 0.02


def test_blinks_are_counted_and_timed(astronaut):
    scorer, head = Scorer(), np.ascontiguousarray(astronaut[0:288, 80:368])

    def blinking(*blinks: tuple[int, int]) -> Scores:
        """Of a face that shuts its eyes from one frame up to another, in two seconds."""
        coefficients = np.zeros((50, len(ARKIT)), np.float32)
        for start, stop in blinks:
            coefficients[start:stop, [ARKIT.index("eyeBlinkLeft"), ARKIT.index("eyeBlinkRight")]] = 1
        frames = list(magictalk.animate(head, motion=Motion(coefficients)).frames())
        return scorer(Footage("blinking", lambda: iter(frames)))

    once, twice = blinking((10, 14)).values, blinking((10, 18), (30, 38)).values
    assert once["blinks"] == pytest.approx(30) and twice["blinks"] == pytest.approx(60)
    assert once["blink length"] == pytest.approx(4 / 25, abs=0.04)
    assert twice["blink length"] == pytest.approx(8 / 25, abs=0.04)


def test_figures_of_networks_move_the_right_way(real, weights):
    """With stand-ins that see colours and differences of pictures, which is what is spoilt here."""
    scorer, frames = Scorer(weights), real[0][:32]

    def footage(frames: list[np.ndarray]) -> Footage:
        return Footage("clip", lambda: iter(frames))

    def figures(spoil: Callable[[Clip], Clip]) -> dict[str, float]:
        scores = scorer(footage(spoil((frames, real[1]))[0]), footage(frames))
        return {figure.figure: figure.value for figure in scorer.figures([scores])}

    good, bad = figures(same), figures(turns_blue)
    for name in ("FID", "FVD", "LPIPS"):
        assert good[name] == pytest.approx(0, abs=1e-3) and bad[name] > good[name] + 1e-3, name
    assert bad["DINO"] < good["DINO"] - 1e-4
