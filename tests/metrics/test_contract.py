"""Every figure keeps torchmetrics' contract: in parts, merged, and after a reset it says what it says of the whole."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from magictalk.face.rig import Rig
from magictalk.metrics.dynamics import ADFD
from magictalk.metrics.emotion import EmotionAccuracy
from magictalk.metrics.eyes import BlinkDuration, BlinkRate
from magictalk.metrics.flicker import Flicker
from magictalk.metrics.frechet import EFID, FID, FVD, FrechetDistance
from magictalk.metrics.identity import DINO, ArcFaceSimilarity, FaceSimilarity, IdentityDrift
from magictalk.metrics.image import LPIPS, PSNR, SSIM
from magictalk.metrics.landmarks import LandmarkDistance
from magictalk.metrics.lips import BilabialClosure, LipCorrelation, SilentLips
from magictalk.metrics.movement import ExpressionDiversity, HeadDiversity, HeadSpectrum, SpeedDistance, SpeedRatio
from magictalk.metrics.networks import NETWORKS, NotComputed
from magictalk.metrics.sharpness import CPBD
from magictalk.metrics.sync import LSEC, LSED, AudioVideoOffset, SyncConfidence, SyncDistance
from magictalk.metrics.text import CLIPT

NETWORKED = (LPIPS, FID, FVD, DINO, CLIPT, EmotionAccuracy)

RNG = np.random.default_rng(0)
MESHES = RNG.normal(200, 20, (2, 12, 478, 3))
COEFFICIENTS = RNG.uniform(0, 1, (2, 90, 52))
ROTATIONS = RNG.normal(0, 0.1, (2, 90, 3))
EMBEDDINGS = RNG.normal(size=(12, 128))
OPENNESS = np.tile(np.repeat([0.3, 0.05, 0.3], [20, 4, 26]), 4)
GAP = np.abs(RNG.normal(0.1, 0.05, 100))
SILENT = np.concatenate([RNG.normal(0, 0.1, 24000), np.zeros(16000), RNG.normal(0, 0.1, 24000)])
VERDICTS = [SimpleNamespace(offset_s=o, distance=d, confidence=c) for o, d, c in ((-0.04, 7.0, 5.0), (0.08, 9.0, 2.0))]

# updates of each figure; what comes in `whole` at once must count the same
FRAMEWISE = {
    "PSNR": (PSNR, lambda p: [(p[1][:2], p[0][:2]), (p[1][2:], p[0][2:])], lambda p: (p[1], p[0])),
    "SSIM": (SSIM, lambda p: [(p[1][:2], p[0][:2]), (p[1][2:], p[0][2:])], lambda p: (p[1], p[0])),
    "LPIPS": (LPIPS, lambda p: [(p[1][:2], p[0][:2]), (p[1][2:], p[0][2:])], lambda p: (p[1], p[0])),
    "CPBD": (CPBD, lambda p: [(p[0][:2],), (p[0][2:],)], lambda p: (p[0],)),
    "DINO": (DINO, lambda p: [(p[0][:2], p[1][0]), (p[0][2:], p[1][0])], lambda p: (p[0], p[1][0])),
    "CLIP-T": (CLIPT, lambda p: [(p[0][:2], "ab c"), (p[0][2:], "ab c")], lambda p: (p[0], "ab c")),
    "F-LMD": (
        LandmarkDistance,
        lambda p: [(MESHES[0, :5], MESHES[1, :5]), (MESHES[0, 5:], MESHES[1, 5:])],
        lambda p: tuple(MESHES),
    ),
    "Face-sim (dlib)": (
        FaceSimilarity,
        lambda p: [(EMBEDDINGS[:5], EMBEDDINGS[0]), (EMBEDDINGS[5:], EMBEDDINGS[0])],
        lambda p: (EMBEDDINGS, EMBEDDINGS[0]),
    ),
    "blinks": (BlinkRate, lambda p: [(OPENNESS[:50],), (OPENNESS[50:],)], lambda p: (OPENNESS,)),
    "blink length": (BlinkDuration, lambda p: [(OPENNESS[:50],), (OPENNESS[50:],)], lambda p: (OPENNESS,)),
    "bilabial closure": (
        BilabialClosure,
        lambda p: [(GAP, GAP + 1, [(0.5, 0.6)]), (GAP, GAP + 1, [(1.0, 1.1), (1.5, 1.6)])],
        lambda p: (GAP, GAP + 1, [(0.5, 0.6), (1.0, 1.1), (1.5, 1.6)]),
    ),
}
CLIPWISE = {
    "ADFD": (ADFD, lambda p: [(*MESHES[:, :7], 500.0), (*MESHES[:, 7:], 500.0)]),
    "identity drift": (IdentityDrift, lambda p: [(RNG.uniform(size=300),), (RNG.uniform(size=300),)]),
    "silent lips": (SilentLips, lambda p: [(GAP, GAP + 1, SILENT), (GAP[::-1], GAP + 1, SILENT)]),
    "flicker": (Flicker, lambda p: [(p[0],), (p[1],)]),
    "emotion accuracy": (EmotionAccuracy, lambda p: [(p[0], "angry"), (p[1], "sad")]),
    "E-FID (ARKit)": (EFID, lambda p: [(COEFFICIENTS[0], True), (COEFFICIENTS[1], False)]),
    "FVD": (FVD, lambda p: [(np.tile(p[0], (8, 1, 1, 1)), True), (np.tile(p[1], (8, 1, 1, 1)), False)]),
    "Sync-D (magictalk)": (SyncDistance, lambda p: [(v,) for v in VERDICTS]),
    "Sync-C (magictalk)": (SyncConfidence, lambda p: [(v,) for v in VERDICTS]),
    "LSE-D": (LSED, lambda p: [(v,) for v in VERDICTS]),
    "LSE-C": (LSEC, lambda p: [(v,) for v in VERDICTS]),
    "A/V offset": (AudioVideoOffset, lambda p: [(v,) for v in VERDICTS]),
    "jaw drop": (partial(LipCorrelation, "jaw drop"), lambda p: [tuple(MESHES), (MESHES[0], MESHES[1, ::-1])]),
    "lid speed": (partial(SpeedRatio, "lid"), lambda p: [(COEFFICIENTS[0], True), (COEFFICIENTS[1], False)]),
    "head speed W1": (partial(SpeedDistance, "head"), lambda p: [(ROTATIONS[0], True), (ROTATIONS[1], False)]),
    "head spectrum": (HeadSpectrum, lambda p: [(ROTATIONS[0], True), (ROTATIONS[1], False)]),
    "expression diversity": (
        ExpressionDiversity,
        lambda p: [(COEFFICIENTS, Rig.load()), (COEFFICIENTS[:, ::-1], Rig.load())],
    ),
    "head diversity": (HeadDiversity, lambda p: [(ROTATIONS,), ([*ROTATIONS, ROTATIONS[0, :50]],)]),
}


def make(figure, weights):
    return figure(weights) if figure in NETWORKED else figure()


@pytest.mark.parametrize("name", [*FRAMEWISE, *CLIPWISE])
def test_merged_is_the_whole_and_reset_forgets(name, weights, pictures):
    kind, updates = {**FRAMEWISE, **CLIPWISE}[name][:2]
    first, second = updates(pictures)
    whole, one, other = (make(kind, weights) for _ in range(3))
    assert whole.figure == name and whole.higher_is_better in (True, False, None)
    whole.update(*first)
    whole.update(*second)
    value = float(whole.compute())
    assert np.isfinite(value)
    one.update(*first)
    other.update(*second)
    one.merge_state(other)
    assert float(one.compute()) == pytest.approx(value, rel=1e-5)
    whole.reset()
    for update in (first, second):
        whole.update(*update)
    assert float(whole.compute()) == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("name", FRAMEWISE)
def test_in_parts_is_the_whole(name, weights, pictures):
    kind, parts, whole = FRAMEWISE[name]
    figure, once = make(kind, weights), make(kind, weights)
    for part in parts(pictures):
        figure.update(*part)
    once.update(*whole(pictures))
    assert float(figure.compute()) == pytest.approx(float(once.compute()), rel=1e-5)


@pytest.mark.parametrize("kind", NETWORKED)
def test_what_needs_a_network_says_so_and_how_to_get_it(kind, tmp_path):
    assert kind.needs in NETWORKS
    with pytest.raises(NotComputed, match=r"^needs .+, get it with: ") as caught:
        kind(tmp_path)
    assert str(tmp_path / kind.needs) in str(caught.value) and "--weights" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_network_serves_a_figure():
    served = {kind.needs for kind in (*NETWORKED, LSED, LSEC, ArcFaceSimilarity)}
    assert served == set(NETWORKS)
    assert FrechetDistance.needs is None
