"""Likeness: embeddings given, DINO's token by hand, and the face ArcFace is shown."""

import numpy as np
import pytest
import torch

from magictalk.face.recognition import aligned
from magictalk.metrics.identity import DINO, ArcFace, FaceSimilarity, IdentityDrift


def test_frames_without_a_face_are_left_out():
    figure = FaceSimilarity()
    embeddings = np.array([[1.0, 0], [np.nan, np.nan], [0, 2.0], [3.0, 3.0]])
    figure.update(embeddings, np.array([5.0, 0]))
    assert float(figure.compute()) == pytest.approx((1 + 0 + np.sqrt(0.5)) / 3)


def test_drift_is_the_mean_over_clips():
    figure = IdentityDrift()
    minutes = np.arange(300) / 25 / 60
    figure.update(0.9 - 0.2 * minutes)
    figure.update(0.5 + 0.1 * minutes)
    assert float(figure.compute()) == pytest.approx(-0.05)


def test_dino_compares_class_tokens(weights, pictures):
    from transformers import BitImageProcessorPil, Dinov2Model

    frames, reference = pictures[0], pictures[1][3]
    figure = DINO(weights)
    figure.update(frames, reference)
    network = Dinov2Model.from_pretrained(weights / "dino").eval()
    processor = BitImageProcessorPil.from_pretrained(weights / "dino")
    with torch.inference_mode():
        tokens = network(**processor([*frames, reference], return_tensors="pt")).last_hidden_state[:, 0]
    expected = torch.nn.functional.cosine_similarity(tokens[:-1], tokens[-1:]).mean()
    assert float(figure.compute()) == pytest.approx(float(expected), rel=1e-4)
    figure.reset()
    figure.update(frames[:1], frames[0])
    assert float(figure.compute()) == pytest.approx(1)


def face_at(x, y, scale, angle):
    """Only the five points that alignment looks at, in ArcFace's arrangement, turned, scaled and moved."""
    five = np.array([[-17.7, -20.3], [17.5, -20.5], [0, -0.3], [-14.5, 20.4], [14.7, 20.2]])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    mesh = np.full((478, 3), 1e3, np.float32)
    mesh[[468, 473, 4, 61, 291], :2] = scale * five @ turn.T + [x, y]
    return mesh


def test_faces_come_out_aligned_wherever_they_are():
    import cv2

    pictures = []
    for x, y, scale, angle in ((100, 90, 1.0, 0.0), (180, 160, 2.0, 0.5)):
        image = np.zeros((320, 320, 3), np.uint8)
        mesh = face_at(x, y, scale, angle)
        for i, point in enumerate((468, 473, 4, 61, 291)):
            middle = tuple(np.rint(mesh[point, :2]).astype(int).tolist())
            cv2.circle(image, middle, round(4 * scale), (250 - 40 * i, 40 * i, 100), -1)
        pictures.append(aligned(image, mesh))
        assert pictures[-1][51, 38].tolist() == [250, 0, 100]  # the left eye's place
        assert pictures[-1][92, 70].tolist() == [90, 160, 100]  # the mouth's right corner's
    assert np.abs(pictures[0].astype(int) - pictures[1]).mean() < 2


def test_arcface_gives_the_networks_embedding(weights, astronaut):
    recogniser = ArcFace(weights)
    mesh = face_at(220, 120, 1.5, 0.1)
    network = torch.jit.load(weights / "arcface" / "arcface.pt")
    face = torch.from_numpy(aligned(astronaut, mesh)).permute(2, 0, 1)[None].float()
    assert recogniser(astronaut, mesh) == pytest.approx(network(face / 127.5 - 1)[0].detach().numpy(), abs=1e-5)
