"""Portraits of every kind of picture file, and a clear word about those that cannot be used."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms
from skimage import data

from magictalk.errors import PortraitError
from magictalk.face.landmarks import FaceDetector
from magictalk.face.rig import Rig
from magictalk.portrait import Portrait
from magictalk.render.sheet import inspect_sheet


@pytest.fixture(scope="module")
def detector():
    return FaceDetector()


@pytest.fixture(scope="module")
def head(astronaut):
    """The astronaut's head alone, 200x220."""
    return np.ascontiguousarray(astronaut[20:240, 120:320])


@pytest.fixture(scope="module")
def portrait(head, detector):
    return Portrait.from_array(head, detector=detector)


@pytest.fixture
def opened(tmp_path, detector):
    def save_and_open(image: Image.Image, name: str, **options) -> Portrait:
        path = tmp_path / name
        image.save(path, **options)
        return Portrait.open(path, detector=detector)

    return save_and_open


def assert_alike(found: Portrait, expected: Portrait, points: float = 2.0, pixels: float = 3.0) -> None:
    assert found.image.shape == expected.image.shape and found.image.dtype == np.uint8
    assert np.abs(found.image.astype(float) - expected.image).mean() < pixels
    assert np.abs(found.landmarks - expected.landmarks)[:, :2].mean() < points


def test_pose_expression_and_neutral_give_the_mesh_back(portrait):
    rig = Rig.load().for_face(portrait.neutral)
    mesh = portrait.pose.to_image(rig.vertices(portrait.coefficients))
    assert np.linalg.norm(mesh - portrait.landmarks[:, :2], axis=1).max() < 0.5
    smile = portrait.coefficients[[23, 24]]  # mouthSmileLeft, mouthSmileRight: she does
    assert smile.min() > 0.5


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tiff", "bmp", "gif", "ppm"])
def test_formats(opened, head, portrait, suffix):
    assert_alike(opened(Image.fromarray(head), f"a.{suffix}"), portrait, pixels=8)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_exif_orientation(opened, head, portrait, orientation):
    turned = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(head).transpose(turned[orientation])
    assert_alike(opened(stored, "a.png", exif=exif), portrait, pixels=0.01)


def test_grey(opened, head, portrait):
    found = opened(Image.fromarray(head).convert("L"), "a.png")
    assert_alike(found, portrait, pixels=30)
    assert (found.image[..., 0] == found.image[..., 1]).all()


@pytest.mark.parametrize("scale", [257, 1])
def test_16_bit_grey(opened, head, portrait, scale):
    """A 16-bit picture counts over its whole range: 257 times the 8-bit values, not values up to 255."""
    grey = np.array(Image.fromarray(head).convert("L"))
    deep = Image.fromarray(grey.astype(np.uint16) * scale)
    if scale == 1:  # nearly black
        with pytest.raises(PortraitError, match="no face"):
            opened(deep, "a.png")
    else:
        assert (opened(deep, "a.png").image[..., 0] == grey).all()


def test_16_bit_colour(tmp_path, head, portrait, detector):
    cv2.imwrite(str(tmp_path / "deep.png"), head[..., ::-1].astype(np.uint16) * 257)
    assert_alike(Portrait.open(tmp_path / "deep.png", detector=detector), portrait, pixels=1)


@pytest.mark.parametrize("top", [1.0, 255.0, 65535.0])
def test_floating_point(opened, head, top):
    grey = np.array(Image.fromarray(head).convert("L"))
    grey[0, 0] = 255
    found = opened(Image.fromarray((grey / np.float32(255) * np.float32(top)).astype(np.float32)), "a.tiff")
    assert np.abs(found.image[..., 0].astype(int) - grey).max() <= 1


def test_transparent_parts_become_white(opened, head, portrait):
    alpha = np.full(head.shape[:2], 255, np.uint8)
    alpha[:10] = 0
    found = opened(Image.fromarray(np.dstack([head, alpha])), "a.png")
    assert (found.image[:10] == 255).all() and (found.image[10:] == head[10:]).all()


def test_palette_with_transparency(opened, head, portrait):
    image = Image.fromarray(head).quantize(255)
    image.putpalette([*image.getpalette()[:765], 0, 0, 0])
    image.paste(255, (0, 0, 200, 10))
    found = opened(image, "a.png", transparency=255)
    assert (found.image[:10] == 255).all()
    assert np.abs(found.landmarks - portrait.landmarks)[:, :2].mean() < 3


def test_cmyk(opened, head, portrait):
    assert_alike(opened(Image.fromarray(head).convert("CMYK"), "a.jpg", quality=95), portrait, pixels=8)


def test_embedded_colours_are_taken_to_srgb(opened, head, portrait):
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    same = ImageCms.ImageCmsProfile(srgb).tobytes()
    assert_alike(opened(Image.fromarray(head), "a.png", icc_profile=same), portrait, pixels=1)
    for broken in (b"nonsense", ImageCms.ImageCmsProfile(lab).tobytes()):
        assert_alike(opened(Image.fromarray(head), "b.png", icc_profile=broken), portrait, pixels=1)


def test_first_frame_of_an_animation(opened, head, portrait):
    other = Image.new("RGB", (200, 220), "green")
    assert_alike(opened(Image.fromarray(head), "a.webp", save_all=True, append_images=[other], lossless=True), portrait)


@pytest.mark.parametrize("shape", ["grey", "grey1", "rgb", "rgba", "readonly", "strided"])
def test_from_array(head, portrait, detector, shape):
    grey = np.array(Image.fromarray(head).convert("L"))
    readonly = head.copy()
    readonly.setflags(write=False)
    array = {
        "grey": grey, "grey1": grey[..., None], "rgb": head, "readonly": readonly,
        "rgba": np.dstack([head, np.full_like(grey, 255)]), "strided": np.dstack([head, head])[..., ::-1][..., 2::-1],
    }[shape]  # fmt: skip
    assert_alike(Portrait.from_array(array, detector=detector), portrait, pixels=30 if "grey" in shape else 0.01)


@pytest.mark.parametrize(
    "array", [np.zeros((9, 9, 3)), np.zeros(9, np.uint8), np.zeros((9, 9, 2), np.uint8), np.zeros((0, 9, 3), np.uint8)]
)
def test_other_arrays_are_refused(array):
    with pytest.raises(PortraitError, match="image"):
        Portrait.from_array(array)


def test_64_pixels(head, detector):
    small = cv2.resize(head[20:200, 10:190], (64, 64), interpolation=cv2.INTER_AREA)
    with pytest.raises(PortraitError, match=r"face in image is 3\d px wide; at least 48"):
        Portrait.from_array(small, detector=detector)
    tight = cv2.resize(head[40:170, 45:165], (64, 64), interpolation=cv2.INTER_AREA)
    assert Portrait.from_array(tight, detector=detector).face.box[2] == pytest.approx(49, abs=4)


def test_8k(head, detector):
    picture = cv2.resize(data.coffee(), (7680, 4320))
    picture[300:1620, 3000:4200] = cv2.resize(head, (1200, 1320))
    found = Portrait.from_array(picture, detector=detector)
    assert found.face.box[0] > 3000 and found.face.box[2] == pytest.approx(92 * 6, rel=0.05)


def test_choice_of_face(head, detector):
    picture = np.full((500, 900, 3), 128, np.uint8)
    for x, scale in ((20, 1.0), (250, 1.7), (640, 0.8)):
        part = cv2.resize(head, None, fx=scale, fy=scale)
        picture[60 : 60 + part.shape[0], x : x + part.shape[1]] = part
    largest = Portrait.from_array(picture, detector=detector)
    assert len(largest.faces) == 3 and largest.face is largest.faces[1]
    for number in (1, 2, 3):
        chosen = Portrait.from_array(picture, face=number, detector=detector)
        assert chosen.face.box == chosen.faces[number - 1].box == largest.faces[number - 1].box
    for number in (0, 4, -1):
        with pytest.raises(PortraitError, match=rf"no face {number} in image: 3 faces were found"):
            Portrait.from_array(picture, face=number, detector=detector)


def test_face_box(head, detector, portrait):
    assert_alike(Portrait.from_array(head, face_box=portrait.face.box, detector=detector), portrait, points=1)
    for box in ((500, 500, 40, 40), (0, 0, 0, 40), (0, 0, -5, 40)):
        with pytest.raises(PortraitError, match="lies outside"):
            Portrait.from_array(head, face_box=box, detector=detector)
    with pytest.raises(PortraitError, match="in that box"):
        Portrait.from_array(data.coffee(), face_box=(100, 100, 100, 100), detector=detector)


def test_no_face_says_where_and_what_to_do(tmp_path, detector):
    Image.fromarray(data.coffee()).save(tmp_path / "lake.jpg")
    with pytest.raises(PortraitError, match=r"no face found in lake.jpg \(600x400\); try --face-box"):
        Portrait.open(tmp_path / "lake.jpg", detector=detector)


def blank_png(width: int, height: int) -> bytes:
    def chunk(body: bytes) -> bytes:
        return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))

    header = chunk(b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT" + zlib.compress(bytes(1000)))


def test_unreadable_files(tmp_path, head):
    whole = io.BytesIO()
    Image.fromarray(head).save(whole, "jpeg")
    png = io.BytesIO()
    Image.fromarray(head).save(png, "png")
    files = {
        "empty.png": (b"", "is empty"),
        "cut.jpg": (whole.getvalue()[:3000], "cut off or damaged"),
        "cut.png": (png.getvalue()[:9000], "cut off or damaged"),
        "header.png": (png.getvalue()[:20], "not a picture|damaged"),
        "noise.jpg": (bytes(range(256)) * 40, "is not a picture"),
        "text.png": (b"hello", "is not a picture"),
        "bomb.png": (blank_png(60000, 60000), "too many pixels"),
    }
    for name, (content, message) in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(PortraitError, match=message) as caught:
            Portrait.open(tmp_path / name)
        assert name in str(caught.value) and "\n" not in str(caught.value)


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(PortraitError, match="no picture at"):
        Portrait.open(tmp_path / "nobody.png")
    with pytest.raises(PortraitError, match="is a folder"):
        Portrait.open(tmp_path)
    with pytest.raises(PortraitError, match="no regular file"):
        Portrait.open("/dev/null")


def test_damaged_bytes_never_crash(tmp_path, head, detector):
    rng = np.random.default_rng(3)
    for kind in ("png", "jpeg", "webp", "gif", "tiff", "bmp"):
        whole = io.BytesIO()
        Image.fromarray(head).save(whole, kind)
        for i in range(12):
            broken = bytearray(whole.getvalue())
            for at in rng.integers(0, len(broken) if i % 2 else 200, 12):
                broken[at] = rng.integers(256)
            (tmp_path / "x").write_bytes(broken)
            try:
                Portrait.open(tmp_path / "x", detector=detector)
            except PortraitError as error:
                assert "\n" not in str(error)


def test_inspect_sheet(portrait):
    sheet = inspect_sheet(portrait)
    assert sheet.shape == (540, 2000, 3) and sheet.dtype == np.uint8
    crop, mesh = sheet[44:524, 512:992], sheet[44:524, 1008:1488]
    differs = (crop != mesh).any(-1)
    assert 0.05 < differs.mean() < 0.5 and differs[100:380, 100:380].mean() > differs.mean()
