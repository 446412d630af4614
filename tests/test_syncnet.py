"""SyncNet: its shapes and names, the sound it hears, the faces it sees, and what the judge makes of them."""

import math

import numpy as np
import pytest
import torch
from scipy.fft import dct

from magictalk.errors import OptionError, WeightsError
from magictalk.syncnet import SyncNet, SyncNetJudge, face_crops, mfcc


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return SyncNet().eval()


def test_layers_have_the_published_names_and_shapes(network):
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items() if tensor.ndim > 1}
    assert shapes == {
        "netcnnaud.0.weight": (64, 1, 3, 3),
        "netcnnaud.4.weight": (192, 64, 3, 3),
        "netcnnaud.8.weight": (384, 192, 3, 3),
        "netcnnaud.11.weight": (256, 384, 3, 3),
        "netcnnaud.14.weight": (256, 256, 3, 3),
        "netcnnaud.18.weight": (512, 256, 5, 4),
        "netfcaud.0.weight": (512, 512),
        "netfcaud.3.weight": (1024, 512),
        "netfclip.0.weight": (512, 512),
        "netfclip.3.weight": (1024, 512),
        "netcnnlip.0.weight": (96, 3, 5, 7, 7),
        "netcnnlip.4.weight": (256, 96, 1, 5, 5),
        "netcnnlip.8.weight": (256, 256, 1, 3, 3),
        "netcnnlip.11.weight": (256, 256, 1, 3, 3),
        "netcnnlip.14.weight": (256, 256, 1, 3, 3),
        "netcnnlip.18.weight": (512, 256, 1, 6, 6),
    }
    with torch.inference_mode():
        assert network.of_sound(torch.zeros(2, 1, 13, 20)).shape == (2, 1024)
        assert network.of_frames(torch.zeros(2, 3, 5, 224, 224)).shape == (2, 1024)


def test_the_conversion_in_the_module_works(network, tmp_path, monkeypatch):
    """The lines of the docstring, on a file of the published kind: a plain state, as old as to lack batch counts."""
    import textwrap

    from magictalk import syncnet

    state = {name: tensor for name, tensor in network.state_dict().items() if not name.endswith("tracked")}
    torch.save(state, tmp_path / "syncnet_v2.model")
    monkeypatch.chdir(tmp_path)
    lines = syncnet.__doc__.split("::\n", 1)[1].split("\nCrops")[0]
    exec(textwrap.dedent(lines), {})
    read = SyncNetJudge.load(tmp_path / "WEIGHTS" / "syncnet").network
    assert all(torch.equal(a, b) for a, b in zip(read.parameters(), network.parameters(), strict=True))


def test_missing_weights_are_an_error(tmp_path):
    with pytest.raises(WeightsError, match=r"no config\.json"):
        SyncNetJudge.load(tmp_path)


def slow_mfcc(signal):
    """python_speech_features' defaults, a frame and a filter at a time."""
    signal = [signal[0], *(signal[i] - 0.97 * signal[i - 1] for i in range(1, len(signal)))]
    count = 1 if len(signal) <= 400 else 1 + math.ceil((len(signal) - 400) / 160)
    top = math.log10(1 + 8000 / 700)
    edges = [math.floor(513 * 700 * (10 ** (i * top / 27) - 1) / 16000) for i in range(28)]
    rows = []
    for k in range(count):
        frame = np.zeros(400)
        part = signal[160 * k : 160 * k + 400]
        frame[: len(part)] = part
        power = np.abs(np.fft.fft(frame, 512)[:257]) ** 2 / 512
        bands = []
        for low, middle, high in zip(edges, edges[1:], edges[2:]):  # noqa: B905
            bands.append(
                sum(power[i] * (i - low) / (middle - low) for i in range(low, middle))
                + sum(power[i] * (high - i) / (high - middle) for i in range(middle, high))
            )
        eps = np.finfo(float).eps
        cepstra = dct(np.log([b or eps for b in bands]), norm="ortho")[:13]
        row = [c * (1 + 11 * math.sin(math.pi * n / 22)) for n, c in enumerate(cepstra)]
        row[0] = math.log(power.sum() or eps)
        rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize("length", [1, 399, 400, 401, 560, 3000])
def test_mfcc_agrees_with_a_slow_reading(length):
    samples = np.random.default_rng(0).normal(0, 0.1, length).astype(np.float32)
    samples[500:1200] = 0
    expected = slow_mfcc((samples.astype(np.float64) * 32768).tolist())
    assert mfcc(samples).shape == expected.shape
    assert mfcc(samples) == pytest.approx(expected, abs=1e-6)


def mesh_in(x0, y0, x1, y1):
    mesh = np.full((478, 3), (x0 + x1) / 2, np.float32)
    mesh[:, 1] = (y0 + y1) / 2
    mesh[0, :2], mesh[1, :2] = (x0, y0), (x1, y1)
    return mesh


def test_crops_hold_the_face_with_room_below():
    frame = np.zeros((300, 400, 3), np.uint8)
    frame[100:200, 150:250] = 200  # the face: a square of 100
    meshes = np.stack([mesh_in(150, 100, 250, 200)] * 3)
    meshes[1] = np.nan
    crops = list(face_crops([frame] * 3, meshes))
    assert len(crops) == 3 and crops[0].shape == (224, 224, 3)
    assert np.array_equal(crops[1], crops[0])
    # 140 px wide, from 20 px left of it and from its top: 224 / 140 = 1.6
    rows, columns = np.nonzero(crops[0][..., 0] > 100)
    assert [rows.min(), rows.max(), columns.min(), columns.max()] == pytest.approx([0, 159, 32, 191], abs=2)


def test_crops_beyond_the_picture_are_grey():
    crop = next(face_crops([np.zeros((100, 100, 3), np.uint8)], mesh_in(0, 0, 100, 100)[None]))
    assert (crop[200:, 100] == 110).all() and (crop[100, 112] == 0).all()


def test_no_face_at_all_is_an_error(network):
    with pytest.raises(OptionError, match="no frame shows a face"):
        SyncNetJudge(network).of_frames(
            [np.zeros((50, 50, 3), np.uint8)] * 8, np.full((8, 478, 3), np.nan, np.float32), np.zeros(6000, np.float32)
        )


def test_the_judge_reads_every_window(network):
    """Against the windows put together one by one, more than one batch of them."""
    from magictalk.metrics.functional.sync import distances_by_shift, read_curve

    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (24, 60, 60, 3), np.uint8)
    meshes = np.stack([mesh_in(10, 10, 50, 50)] * 24)
    samples = rng.normal(0, 0.1, 23 * 640).astype(np.float32)
    figures = SyncNetJudge(network).of_frames(iter(frames), meshes, samples)
    crops, cepstra = list(face_crops(frames, meshes)), mfcc(samples)
    seen, heard = [], []
    with torch.inference_mode():
        for i in range(23 - 5):
            five = np.stack([crop[..., ::-1] for crop in crops[i : i + 5]]).transpose(3, 0, 1, 2)
            seen.append(network.of_frames(torch.from_numpy(five.copy())[None].float()))
            heard.append(network.of_sound(torch.from_numpy(cepstra[4 * i : 4 * i + 20].T.copy())[None, None].float()))
    expected = read_curve(distances_by_shift(torch.cat(seen).numpy(), torch.cat(heard).numpy()))
    assert figures.offset_s == expected.offset_s
    assert figures.distance == pytest.approx(expected.distance, rel=1e-4)
    assert figures.confidence == pytest.approx(expected.confidence, rel=1e-3, abs=1e-5)


def test_too_short_a_clip_is_an_error(network):
    with pytest.raises(OptionError, match="at least 6 frames"):
        SyncNetJudge(network).of_frames([], np.zeros((5, 478, 3), np.float32), np.zeros(16000, np.float32))
