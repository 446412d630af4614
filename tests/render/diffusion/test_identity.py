"""Who is seen: several pictures, two people, and the way between them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from magictalk import Portrait
from magictalk.errors import OptionError
from magictalk.render.diffusion.identity import GREY, Blend, between, embedding_of, in_place_of, likeness, people


def faces(count: int, seed: int, spread: float = 0.2) -> torch.Tensor:
    """Pictures of one person, numbers of about 1 each."""
    draw = torch.Generator().manual_seed(seed)
    own = torch.randn(128, generator=draw)
    each = own + spread * torch.randn(count, 128, generator=draw)
    return torch.nn.functional.normalize(each, dim=-1) * 128**0.5


def test_people_are_told_apart() -> None:
    a, b = faces(3, 0), faces(2, 1)
    assert people([*a[:2], *b, a[2]], 0.82) == ([0, 1, 4], [2, 3])
    assert people(list(a), 0.82) == ([0, 1, 2], [])


def test_the_way_from_one_person_to_another() -> None:
    a, b = faces(3, 0), faces(2, 1)
    goal = torch.nn.functional.normalize(b, dim=-1).mean(0)
    assert torch.equal(between(a, b, 0), a)
    assert torch.allclose(between(a, b, 1), (goal / goal.norm() * 128**0.5).expand(3, -1), atol=1e-4)
    assert not between(torch.zeros(2, 8), torch.zeros(1, 8), 0.5).any()  # nobody
    near = [[likeness(e, goal) for e in between(a, b, share)] for share in (0, 0.25, 0.5, 0.75, 1)]
    assert (np.diff(near, axis=0) > 0).all()


@given(st.floats(0.01, 0.99), st.integers(0, 100))
def test_the_way_is_walked_evenly_and_lengths_stay(share: float, seed: int) -> None:
    """Angles along a great circle grow with the share."""
    a, b = faces(1, seed), faces(1, seed + 1000)
    angle = np.arccos(likeness(a[0], b[0]))
    made = between(a, b, share)
    assert float(made.norm()) == pytest.approx(128**0.5, rel=1e-4)
    assert np.arccos(likeness(a[0], made[0])) == pytest.approx(share * angle, abs=2e-3)


def test_blends_are_read() -> None:
    assert Blend.parse("0.3") == Blend((0.0,), (0.3,))
    moving = Blend.parse("0s 0; 2s 1; 4 s 0.5")
    assert moving == Blend((0.0, 2.0, 4.0), (0.0, 1.0, 0.5))
    assert [moving.share(frame) for frame in (0, 25, 50, 75, 500)] == [0, 0.5, 1, 0.75, 0.5]


@pytest.mark.parametrize("text", ["", "x", "1.5", "-0.1", "1s 0; 2s 1", "0s 0; 0s 1", "0s 0; 3s 2", "0.3; 0.4", "nan"])
def test_bad_blends(text: str) -> None:
    with pytest.raises(OptionError, match="expected a share from 0 to 1, or shares over time as '0s 0; 4s 1'"):
        Blend.parse(text)


def test_backgrounds_are_taken_out(astronaut: np.ndarray) -> None:
    portrait = Portrait.from_array(np.ascontiguousarray(astronaut[:360, 60:420]))
    seen: list[np.ndarray] = []

    def embed(picture: np.ndarray, mesh: np.ndarray) -> torch.Tensor:
        seen.append(picture)
        assert mesh is portrait.landmarks
        return torch.ones(4)

    assert torch.equal(embedding_of(portrait, embed), torch.ones(4))
    corner, nose = seen[0][:20, :20].astype(int), portrait.landmarks[4, 1::-1].astype(int)
    assert np.abs(corner - GREY).max() < 12
    assert np.abs(seen[0][tuple(nose)].astype(int) - portrait.image[tuple(nose)]).max() < 6


@pytest.mark.parametrize("larger", [1, 3])
def test_another_picture_is_laid_into_the_place_of_the_portrait(astronaut: np.ndarray, larger: int) -> None:
    """Her own, turned and larger, is laid back onto itself."""
    portrait = Portrait.from_array(astronaut)
    turn = larger * np.array([[1.26, 0.34, -90], [-0.34, 1.26, 60.0]])
    turned = cv2.warpAffine(astronaut, turn, (640 * larger, 600 * larger))
    again = in_place_of(portrait, Portrait.from_array(turned))
    assert again.image.shape == astronaut.shape
    assert np.abs(again.landmarks[:, :2] - portrait.landmarks[:, :2]).mean() < 0.01 * portrait.face.box[2]
    inside = np.s_[60:180, 170:280]
    assert np.abs(again.image[inside].astype(int) - astronaut[inside]).mean() < 8
