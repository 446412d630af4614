"""Portrait: one person in one picture, with what the picture says about the face."""

from __future__ import annotations

import io
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

from magictalk.errors import PortraitError
from magictalk.face.landmarks import Box, Face, FaceDetector
from magictalk.face.pose import Pose
from magictalk.face.rig import Rig
from magictalk.motion import ARKIT

_MOODS = (
    "mouthSmile", "mouthFrown", "mouthDimple", "mouthLeft", "mouthRight", "mouthPress", "cheekSquint", "noseSneer",
    "brow", "eyeSquint", "eyeWide",
)  # fmt: skip
_MOOD_KEPT = 0.4
SMALLEST_FACE = 48
"""Pixels that a face must be wide."""


@dataclass(frozen=True, eq=False)
class Portrait:
    """A person to animate. Make one with :meth:`open` or :meth:`from_array`.

    Attributes:
        image: uint8 RGB ``[H, W, 3]``, the picture at its own size.
        faces: all faces found, from left to right.
        face: the chosen one.
        pose: where the head is in the picture.
        coefficients: float32 ``[52]``, the expression that the picture shows.
        neutral: float32 ``[478, 3]``, the face at rest in face space.
    """

    image: NDArray[np.uint8]
    faces: tuple[Face, ...]
    face: Face
    pose: Pose
    coefficients: NDArray[np.float32]
    neutral: NDArray[np.float32]

    @property
    def landmarks(self) -> NDArray[np.float32]:
        """The chosen face's mesh in image pixels, float32 ``[478, 3]``."""
        return self.face.landmarks

    @property
    def mood(self) -> NDArray[np.float32]:
        """What stays of the picture's own expression on a face that talks, float32 ``[52]``.

        Its smile and brows, softened; never its open mouth. A face with none of its own mood looks ill.
        """
        kept = [_MOOD_KEPT if name.startswith(_MOODS) else 0.0 for name in ARKIT]
        return self.coefficients * np.array(kept, np.float32)

    @staticmethod
    def open(
        path: str | Path, face: int | None = None, face_box: Box | None = None, detector: FaceDetector | None = None
    ) -> Portrait:
        """Read a picture of any kind that Pillow reads, of any colour mode, turned as its EXIF data says.

        Transparent parts become white; of an animation the first frame counts.

        Args:
            path: the picture.
            face: which face, counted from 1 from left to right; the largest by default.
            face_box: ``(x, y, width, height)`` in pixels around the face, when it is not found by itself.
            detector: one already loaded, when many pictures are opened.

        Raises:
            PortraitError: when the file is missing, empty, cut off, not an image or too large, or shows no such
                face, or one less than 48 pixels wide.
        """
        return _find(_read(Path(path)), Path(path).name, face, face_box, detector)

    @staticmethod
    def from_array(
        image: NDArray[np.uint8],
        face: int | None = None,
        face_box: Box | None = None,
        detector: FaceDetector | None = None,
    ) -> Portrait:
        """The same from pixels: uint8 ``[H, W]`` or ``[H, W, 1 | 3 | 4]``: grey, RGB, or RGB and alpha.

        Raises:
            PortraitError: as :meth:`open`, or when the array is not such an image.
        """
        array = np.asarray(image)
        if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.shape[2:] not in ((), (1,), (3,), (4,)):
            raise PortraitError(f"image is {array.dtype} {array.shape}; expected uint8 [H, W, 3]")
        if not array.size:
            raise PortraitError(f"image of shape {array.shape} has no pixels")
        return _find(_to_rgb(Image.fromarray(array.squeeze(2) if array.shape[2:] == (1,) else array)), "image", face,
                     face_box, detector)  # fmt: skip


def _find(
    image: NDArray[np.uint8], name: str, number: int | None, box: Box | None, detector: FaceDetector | None
) -> Portrait:
    height, width = image.shape[:2]
    detector = detector or FaceDetector()
    if box is not None:
        x, y, w, h = box
        if not (w > 0 and h > 0 and x < width and y < height and x + w > 0 and y + h > 0):
            raise PortraitError(
                f"face box {box} lies outside of {name} ({width}x{height}); expected x, y, width, height"
            )
        seen = detector.mesh(image, box, doubt=False)
        faces = [seen] if seen else []
    else:
        faces = detector(image)
    if not faces:
        where = "in that box of " if box else "in "
        advice = (
            "draw it a little larger than the face" if box else "try --face-box x,y,w,h or a picture with a larger face"
        )
        raise PortraitError(f"no face found {where}{name} ({width}x{height}); {advice}")
    if number is None:
        face = max(faces, key=lambda f: f.box[2] * f.box[3])
    elif 1 <= number <= len(faces):
        face = faces[number - 1]
    else:
        found = "1 face was" if len(faces) == 1 else f"{len(faces)} faces were"
        raise PortraitError(f"no face {number} in {name}: {found} found, counted from 1 from left to right")
    if face.box[2] < SMALLEST_FACE:
        raise PortraitError(
            f"face in {name} is {face.box[2]:.0f} px wide; at least {SMALLEST_FACE} are needed, so use a larger picture"
        )
    fit = Rig.load().fit_portrait(face.landmarks)
    return Portrait(image, tuple(faces), face, fit.pose, fit.coefficients, fit.neutral)


def _read(path: Path) -> NDArray[np.uint8]:
    if not path.exists():
        raise PortraitError(f"no picture at {path}; check the name")
    if not path.is_file():
        raise PortraitError(f"{path} is {'a folder' if path.is_dir() else 'no regular file'}; expected a picture")
    if not path.stat().st_size:
        raise PortraitError(f"{path} is empty; expected a picture")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on large or sloppy files; failures are raised
            with Image.open(path) as picture:
                picture.load()
                return _to_rgb(ImageOps.exif_transpose(picture))
    except Image.DecompressionBombError as cause:
        raise PortraitError(f"{path} has too many pixels; expected at most 178 million, so make it smaller") from cause
    except Image.UnidentifiedImageError as cause:
        raise PortraitError(f"{path} is not a picture; expected JPEG, PNG, WebP, TIFF, BMP or GIF") from cause
    except OSError as cause:
        if cause.strerror:
            raise PortraitError(f"cannot read {path}: {cause.strerror}") from cause
        raise PortraitError(f"{path} is cut off or damaged ({cause}); get it again") from cause
    except (SyntaxError, ValueError, EOFError, struct.error) as cause:
        raise PortraitError(f"{path} is damaged ({cause}); get it again") from cause


def _to_rgb(picture: Image.Image) -> NDArray[np.uint8]:
    """Any mode to uint8 RGB ``[H, W, 3]``: deep greys scaled, colours taken to sRGB, transparency over white."""
    if picture.mode.startswith("I;16") or picture.mode in ("I", "F"):
        values = np.nan_to_num(np.asarray(picture, np.float64))
        most = next((m for m in (1.0, 255.0) if picture.mode == "F" and values.max() <= m), 65535.0)
        picture = Image.fromarray((values.clip(0, most) * (255 / most)).round().astype(np.uint8))
    picture = _to_srgb(picture)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return np.array(picture.convert("RGB"))


def _to_srgb(picture: Image.Image) -> Image.Image:
    """Colours of an embedded profile (phones, print) as a screen shows them; a broken profile counts as none."""
    profile = picture.info.get("icc_profile")
    if not profile or picture.mode not in ("RGB", "RGBA", "CMYK"):
        return picture
    out = "RGBA" if picture.mode == "RGBA" else "RGB"
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(picture, own, ImageCms.createProfile("sRGB"), outputMode=out)
    except (ImageCms.PyCMSError, OSError):
        return picture
    return converted or picture
