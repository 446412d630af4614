"""SyncNet (Chung and Zisserman, "Out of time", 2016), the judge behind the field's LSE-D and LSE-C.

The network is that of ``syncnet_v2.model``, by which published figures are computed; layers keep its names, so that
the file converts once, with nothing but tensors unpickled::

    import torch
    from magictalk.syncnet import SyncNet

    network = SyncNet()
    network.load_state_dict(torch.load("syncnet_v2.model", map_location="cpu", weights_only=True))
    network.save_pretrained("WEIGHTS/syncnet")

Crops of the face are made from our mesh's box where the reference has a detector's, so figures differ a little.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from numpy.typing import NDArray
from scipy.fft import dct
from scipy.ndimage import median_filter
from torch import Tensor, nn

from magictalk import weights
from magictalk.errors import OptionError
from magictalk.metrics.functional.sync import SyncFigures, distances_by_shift, read_curve

WINDOW = 5
"""Frames that the network sees at once."""
CEPSTRA = 20
"""Cepstral frames, 10 ms each, that it hears meanwhile."""
SIZE = 224
"""Side of its picture in pixels."""

_BATCH = 16
_AROUND = 0.4  # of half the face's box, left in the crop at its sides and twice that below
_BORDER = (110, 110, 110)  # what the crop shows beyond the picture


class SyncNet(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Embeds five frames of a face, or the sound meanwhile, so that what belongs together lies close together.

    Args:
        features: size of the embeddings.
    """

    @register_to_config
    def __init__(self, features: int = 1024) -> None:
        super().__init__()
        self.netcnnaud = nn.Sequential(
            *_layer(nn.Conv2d, nn.BatchNorm2d, 1, 64, 3, padding=1), nn.MaxPool2d(1, 1),
            *_layer(nn.Conv2d, nn.BatchNorm2d, 64, 192, 3, padding=1), nn.MaxPool2d(3, (1, 2)),
            *_layer(nn.Conv2d, nn.BatchNorm2d, 192, 384, 3, padding=1),
            *_layer(nn.Conv2d, nn.BatchNorm2d, 384, 256, 3, padding=1),
            *_layer(nn.Conv2d, nn.BatchNorm2d, 256, 256, 3, padding=1), nn.MaxPool2d(3, 2),
            *_layer(nn.Conv2d, nn.BatchNorm2d, 256, 512, (5, 4)),
        )  # fmt: skip
        self.netcnnlip = nn.Sequential(
            *_layer(nn.Conv3d, nn.BatchNorm3d, 3, 96, (5, 7, 7), stride=(1, 2, 2)), nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            *_layer(nn.Conv3d, nn.BatchNorm3d, 96, 256, (1, 5, 5), stride=(1, 2, 2), padding=(0, 1, 1)),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            *_layer(nn.Conv3d, nn.BatchNorm3d, 256, 256, (1, 3, 3), padding=(0, 1, 1)),
            *_layer(nn.Conv3d, nn.BatchNorm3d, 256, 256, (1, 3, 3), padding=(0, 1, 1)),
            *_layer(nn.Conv3d, nn.BatchNorm3d, 256, 256, (1, 3, 3), padding=(0, 1, 1)),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            *_layer(nn.Conv3d, nn.BatchNorm3d, 256, 512, (1, 6, 6)),
        )  # fmt: skip
        self.netfcaud, self.netfclip = (
            nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, features))
            for _ in range(2)
        )

    def of_sound(self, cepstra: Tensor) -> Tensor:
        """Embeddings ``[B, D]`` of cepstra ``[B, 1, 13, 20]`` as :func:`mfcc` gives them."""
        return self.netfcaud(self.netcnnaud(cepstra).flatten(1))

    def of_frames(self, faces: Tensor) -> Tensor:
        """Embeddings ``[B, D]`` of faces ``[B, 3, 5, 224, 224]``, BGR, 0 to 255."""
        return self.netfclip(self.netcnnlip(faces).flatten(1))


def _layer(
    convolution: type[nn.Module], norm: type[nn.Module], inside: int, outside: int, kernel: int | tuple[int, ...],
    **options: object,
) -> list[nn.Module]:  # fmt: skip
    return [convolution(inside, outside, kernel, **options), norm(outside), nn.ReLU()]


class SyncNetJudge:
    """Judges the lip sync of videos by SyncNet: LSE-D, LSE-C and the offset.

    Args:
        network: with its published weights.
    """

    def __init__(self, network: SyncNet) -> None:
        self.network = network.eval()

    @classmethod
    def load(cls, name: str | Path) -> SyncNetJudge:
        """The judge with weights from a folder or hub id.

        Raises:
            WeightsError: there are none, or they do not fit.
        """
        return cls(weights.load(SyncNet, name))

    @torch.inference_mode()
    def of_frames(
        self, frames: Iterable[NDArray[np.uint8]], landmarks: NDArray[np.float32], samples: NDArray[np.float32]
    ) -> SyncFigures:
        """Judge a video.

        Args:
            frames: RGB ``[H, W, 3]`` at 25 fps, read once, in order.
            landmarks: their meshes ``[T, 478, 3]`` in pixels, NaN where no face was found.
            samples: the sound, float32 ``[N]`` at 16 kHz.

        Raises:
            OptionError: no frame has a face, or picture or sound are shorter than six frames (0.24 s).
        """
        length = min(len(landmarks), len(samples) // 640) - WINDOW
        if length < 1:
            raise OptionError(
                f"{len(landmarks)} frames and {len(samples) / 16000:.2f} s of sound; SyncNet expects at least "
                f"{WINDOW + 1} frames and {(WINDOW + 1) / 25} s"
            )
        cepstra = torch.from_numpy(mfcc(samples).T.astype(np.float32))
        heard = cepstra.unfold(1, CEPSTRA, 4)[:, :length].permute(1, 0, 2)[:, None]
        sound = torch.cat([self.network.of_sound(part) for part in heard.split(256)])
        picture = torch.cat(list(self._seen(face_crops(frames, landmarks), length)))
        return read_curve(distances_by_shift(picture.numpy(), sound.numpy()))

    def _seen(self, crops: Iterator[NDArray[np.uint8]], length: int) -> Iterator[Tensor]:
        held = list(islice(crops, WINDOW - 1))
        for start in range(0, length, _BATCH):
            held += islice(crops, min(_BATCH, length - start))
            faces = torch.from_numpy(np.stack(held)[..., ::-1].copy()).float()  # BGR
            yield self.network.of_frames(faces.unfold(0, WINDOW, 1).permute(0, 3, 4, 1, 2))
            held = held[1 - WINDOW :]


def face_crops(
    frames: Iterable[NDArray[np.uint8]], landmarks: NDArray[np.float32]
) -> Iterator[NDArray[np.uint8]]:  # fmt: skip
    """Faces ``[224, 224, 3]`` as SyncNet is used to them: chin and neck in view, the box smoothed over 13 frames.

    Args:
        frames: RGB ``[H, W, 3]``.
        landmarks: their meshes ``[T, 478, 3]`` in pixels; the box of a frame without one (NaN) is interpolated.

    Raises:
        OptionError: there is no face in any frame.
    """
    import cv2

    for frame, (x, y, half) in zip(frames, _boxes(landmarks), strict=False):
        scale = SIZE / (2 * half * (1 + _AROUND))
        left, top = x - half * (1 + _AROUND), y - half
        to_crop = np.array([[scale, 0, -scale * left], [0, scale, -scale * top]])
        yield cv2.warpAffine(frame, to_crop, (SIZE, SIZE), flags=cv2.INTER_LINEAR, borderValue=_BORDER)


def _boxes(landmarks: NDArray[np.float32]) -> NDArray[np.float64]:
    """Middle and half the longer side of each face ``[T, 3]``, px, after a median over 13 frames."""
    points = np.asarray(landmarks, np.float64)[..., :2]
    low, high = points.min(1), points.max(1)
    boxes = np.concatenate([(low + high) / 2, (high - low).max(1, keepdims=True) / 2], 1)
    known = np.isfinite(boxes).all(1)
    if not known.any():
        raise OptionError("no frame shows a face; SyncNet expects one")
    time = np.arange(len(boxes))
    filled = np.stack([np.interp(time, time[known], column[known]) for column in boxes.T], 1)
    return median_filter(filled, (13, 1), mode="nearest")


def mfcc(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mel cepstra ``[1 + ceil((N - 400) / 160), 13]`` of float32 ``[N]`` at 16 kHz, those SyncNet was trained on.

    As ``python_speech_features.mfcc`` makes them by default of 16-bit samples: pre-emphasis 0.97, frames of 25 ms
    every 10 ms without a window, 26 mel bands, a lifter of 22, and the log energy in place of the first.
    """
    signal = np.asarray(samples, np.float64) * 32768
    signal = np.append(signal[:1], signal[1:] - 0.97 * signal[:-1])
    count = 1 + max(0, -(-(len(signal) - 400) // 160))
    padded = np.pad(signal, (0, max(0, 160 * (count - 1) + 400 - len(signal))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, 400)[::160][:count]
    power = np.abs(np.fft.rfft(frames, 512)) ** 2 / 512
    tiny = np.finfo(float).eps
    energy, bands = power.sum(1), power @ _filters().T
    cepstra = dct(np.log(np.where(bands == 0, tiny, bands)), type=2, axis=1, norm="ortho")[:, :13]
    cepstra *= 1 + 11 * np.sin(np.pi * np.arange(13) / 22)
    cepstra[:, 0] = np.log(np.where(energy == 0, tiny, energy))
    return cepstra


@lru_cache(maxsize=1)
def _filters() -> NDArray[np.float64]:
    """Triangles ``[26, 257]`` between whole bins, equally spaced on HTK's mel scale from 0 to 8 kHz."""
    mel = np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 28)
    edges = np.floor(513 * 700 * (10 ** (mel / 2595) - 1) / 16000)
    bins = np.arange(257)
    low, middle, high = (edges[i : i + 26, None] for i in range(3))
    rise, fall = (bins - low) / (middle - low), (high - bins) / (high - middle)
    return np.maximum(0, np.minimum(rise, fall))
