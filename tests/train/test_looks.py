"""Looks say what they show, and show what they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from magictalk.errors import DatasetError
from magictalk.face.landmarks import FaceDetector
from magictalk.render.diffusion.caption import BACKGROUNDS, HAIR, Caption, caption_of, hair_of, lab_of, named, rgb_of
from magictalk.train.looks import (
    MEDIA,
    TINTS,
    behind,
    captions_for,
    looks_of,
    person_of,
    read_captions,
    tinted,
    write_captions,
)
from magictalk.train.pictures import Clip


@pytest.fixture(scope="module")
def clip(astronaut: np.ndarray) -> Clip:
    import cv2

    picture = cv2.resize(np.ascontiguousarray(astronaut[:360, 60:420]), (128, 128), interpolation=cv2.INTER_AREA)
    points = FaceDetector()(astronaut[:360, 60:420])[0].landmarks[:, :2] * (128 / 360)
    frames = np.repeat(picture[None], 2, 0)
    return Clip(
        "astronaut", "people", "train", frames, np.repeat(points[None], 2, 0).astype(np.float32), np.ones(2, bool),
        np.zeros((128, 128), np.uint8), np.zeros(128, np.float32), smile=0.6,
    )  # fmt: skip


@pytest.fixture(scope="module")
def person(clip: Clip) -> np.ndarray:
    return person_of(clip)


def test_colours_have_their_names() -> None:
    for names in (BACKGROUNDS, HAIR):
        assert all(named(np.array(colour, float) + 3, names) == name for name, colour in names.items())


def test_colours_there_and_back() -> None:
    colours = np.random.default_rng(0).uniform(0, 255, (5, 4, 3)).astype(np.float32)
    assert np.allclose(rgb_of(lab_of(colours)), colours, atol=0.5)
    assert lab_of(np.full((1, 3), 255, np.float32))[0] == pytest.approx([100, 0, 0], abs=0.1)


def test_captions_read_well() -> None:
    assert str(Caption()) == "a photograph of a person"
    assert str(Caption("cartoon", "woman", "smiling", "red", "blue", "warm")) == (
        "a cartoon of a smiling woman with red hair in front of a blue background in warm light"
    )


def test_what_a_portrait_shows_is_said(clip: Clip, person: np.ndarray) -> None:
    caption = caption_of(clip.frames[0], clip.points[0], person[0], clip.smile)
    assert caption.expression == "smiling" and caption.hair == "brown"


def test_hair_lies_above_and_beside_the_face(clip: Clip, person: np.ndarray) -> None:
    hair = hair_of(clip.points[0], person[0])
    forehead, chin = clip.points[0][10], clip.points[0][152]
    nose = clip.points[0][4].astype(int)
    assert hair[int(forehead[1]) - 6, int(forehead[0])] > 0.8
    assert hair[nose[1], nose[0]] < 0.01 and hair[int(chin[1]) :].max() < 0.01


def test_backgrounds_are_exchanged_and_people_are_not(clip: Clip, person: np.ndarray) -> None:
    blue = behind(clip.frames, person, BACKGROUNDS["blue"])
    nose = clip.points[0][4].astype(int)
    assert np.array_equal(blue[0, nose[1], nose[0]], clip.frames[0, nose[1], nose[0]])
    assert named(np.median(blue[0][person[0] < 0.05], axis=0), BACKGROUNDS) == "blue"


def test_tinted_hair_has_the_colour_and_skin_keeps_its_own(clip: Clip, person: np.ndarray) -> None:
    hair = np.stack([hair_of(points, mask) for points, mask in zip(clip.points, person, strict=True)])
    for name in ("red", "blue", "green"):
        made = lab_of(tinted(clip.frames, hair, TINTS[name]).astype(np.float32))[hair > 0.95].mean(0)
        assert np.linalg.norm(made[1:] - TINTS[name][1:]) < 12
    nose = clip.points[0][4].astype(int)
    made = tinted(clip.frames, hair, TINTS["green"])[0, nose[1], nose[0]].astype(int)
    assert np.abs(made - clip.frames[0, nose[1], nose[0]]).max() <= 2


def test_media_differ(clip: Clip) -> None:
    shown = {name: make(clip.frames) for name, make in MEDIA.items()}
    assert all(frames.shape == clip.frames.shape and frames.dtype == np.uint8 for frames in shown.values())
    spread = {name: float(np.ptp(frames.astype(int), axis=-1).mean()) for name, frames in shown.items()}
    assert spread["black and white photograph"] == spread["pencil drawing"] == 0 < spread["photograph"]
    assert len(np.unique(shown["cartoon"])) < 40


def test_looks_begin_with_the_clip_and_differ_from_it(clip: Clip, person: np.ndarray) -> None:
    def recognise(picture: np.ndarray, mesh: np.ndarray) -> np.ndarray:
        assert picture.shape == (128, 128, 3) and mesh.shape == (478, 3)
        return np.full(128, picture.mean(), np.float32)

    own = Caption(hair="brown", background="grey")
    looks = looks_of(clip, own, person, 12, recognise, np.random.default_rng(0))
    assert len(looks) == 12 and looks[0].caption == own and looks[0].clip is clip
    assert len({str(look.caption) for look in looks}) > 6
    for look in looks[1:]:
        assert not np.array_equal(look.clip.frames, clip.frames) and (look.clip.face > 0).all()
        if look.caption.medium in ("black and white photograph", "pencil drawing"):
            assert not look.caption.hair and np.ptp(look.clip.frames, axis=-1).max() == 0
    again = looks_of(clip, own, person, 12, recognise, np.random.default_rng(0))
    assert all(
        a.caption == b.caption and np.array_equal(a.clip.frames, b.clip.frames)
        for a, b in zip(looks, again, strict=True)
    )


def test_the_table_can_be_edited(clip: Clip, person: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "captions.csv"
    write_captions(path, {"other": Caption(subject="old man, bearded")})
    first = captions_for([clip], [person], path)
    table = read_captions(path)
    assert table == {"other": Caption(subject="old man, bearded"), "astronaut": first[0]}
    path.write_text(path.read_text().replace("a person", "").replace("smiling", "laughing"))
    assert captions_for([clip], [person], path)[0].expression == "laughing"
    path.write_text("clip,medium\nastronaut,photograph\n")
    with pytest.raises(DatasetError, match="lacks the column subject; expected clip, medium, subject"):
        read_captions(path)
