"""Draw what is behind the lips, once: teeth, gums and tongue of USC's ICT-FaceKit head (MIT), seen from the front.

    python recipes/mouth.py --data ../shared/data

writes three small RGBA pictures and their scale to ``src/magictalk/assets/mouth``. Colours are linear shades of
typical enamel, gum and tongue; the render tints them to a portrait's own light.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

PIXELS_PER_IOD = 240
SUPERSAMPLE = 4
# vertex ranges of the ICT-FaceKit light mesh
GUMS_AND_TONGUE = range(14062, 17039)
UPPER_TEETH, LOWER_TEETH = range(17039, 19247), range(19247, 21451)
EYEBALLS = range(21451, 24591)
ENAMEL, GUM, TONGUE = (238, 230, 214), (176, 92, 92), (184, 96, 94)
ANCHOR = np.array([0.0, -3.53, 10.79])  # the edge between the two upper front teeth, in the mesh's centimetres


def draw(vertices: NDArray, faces: NDArray, colour: NDArray, size: tuple[int, int]) -> NDArray:
    """Z-buffered, smooth-shaded RGBA picture of triangles; vertices in pixels, y down, z toward the viewer."""
    width, height = size
    normal = np.zeros_like(vertices)
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    flat = np.cross(b - a, c - a)
    for i in range(3):
        np.add.at(normal, faces[:, i], flat)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
    normal *= np.sign(normal[:, 2:] + 1e-9)  # both sides are lit: winding differs between parts
    light = np.array([0.0, -0.35, 0.94])  # above and in front
    shade = 0.35 + 0.65 * np.clip(normal @ light, 0, 1)
    gloss = np.clip(normal @ np.array([0.0, -0.45, 0.893]), 0, 1) ** 60
    unit = PIXELS_PER_IOD * SUPERSAMPLE
    front = vertices[np.unique(faces), 2].max()
    shade *= np.exp(-np.clip(front - vertices[:, 2] - 0.05 * unit, 0, None) / (0.45 * unit))  # deeper is darker
    lit = colour * shade[:, None] + 18 * gloss[:, None]
    picture, depth = np.zeros((height, width, 4)), np.full((height, width), -np.inf)
    for face in faces:
        p = vertices[face]
        low = np.floor(p[:, :2].min(0)).astype(int).clip(0)
        high = np.minimum(np.ceil(p[:, :2].max(0)).astype(int) + 1, [width, height])
        if (high <= low).any():
            continue
        x, y = np.meshgrid(np.arange(low[0], high[0]) + 0.5, np.arange(low[1], high[1]) + 0.5)
        (x0, y0), (x1, y1), (x2, y2) = p[:, :2]
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if abs(area) < 1e-9:
            continue
        w1 = ((x - x0) * (y2 - y0) - (x2 - x0) * (y - y0)) / area
        w2 = ((x1 - x0) * (y - y0) - (x - x0) * (y1 - y0)) / area
        w0 = 1 - w1 - w2
        z = w0 * p[0, 2] + w1 * p[1, 2] + w2 * p[2, 2]
        part = (slice(low[1], high[1]), slice(low[0], high[0]))
        seen = (w0 >= 0) & (w1 >= 0) & (w2 >= 0) & (z > depth[part])
        depth[part][seen] = z[seen]
        weights = np.stack([w0, w1, w2], -1)[seen]
        picture[part][seen] = np.concatenate([weights @ lit[face], np.full((len(weights), 1), 255.0)], 1)
    small = picture.reshape(height // SUPERSAMPLE, SUPERSAMPLE, width // SUPERSAMPLE, SUPERSAMPLE, 4)
    alpha = small[..., 3:].sum((1, 3))
    rgb = (small[..., :3] * small[..., 3:]).sum((1, 3)) / np.maximum(alpha, 1e-9)
    return np.concatenate([rgb, alpha / SUPERSAMPLE**2], -1).round().clip(0, 255).astype(np.uint8)


def draw_tongue(size: tuple[int, int]) -> NDArray:
    """A resting tongue behind the lower teeth (authored: the mesh's own is seen edge-on from the front)."""
    width, height = size
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    u = (x - width / 2) / (0.36 * PIXELS_PER_IOD)
    v = (y - 0.66 * PIXELS_PER_IOD) / (0.20 * PIXELS_PER_IOD)
    radius = np.sqrt(u**2 + np.where(v < 0, v**2, (v / 3) ** 2))
    shade = (0.95 - 0.45 * radius**2 - 0.10 * np.exp(-((u / 0.10) ** 2))).clip(0.3, 1)  # a dome with a middle groove
    alpha = 255 / (1 + np.exp((radius - 0.95) * 40))
    return np.concatenate([shade[..., None] * TONGUE, alpha[..., None]], -1).round().clip(0, 255).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with meshes/ict_facekit_expressions.npz")
    parser.add_argument("-o", "--output", type=Path, default=Path("src/magictalk/assets/mouth"))
    args = parser.parse_args()
    with np.load(args.data / "meshes" / "ict_facekit_expressions.npz") as mesh:
        vertices, quads = mesh["neutral"].astype(np.float64), mesh["faces"]
        jaw = mesh["deltas"][list(mesh["names"]).index("jawOpen")].astype(np.float64)
    triangles = np.concatenate([quads[:, :3], quads[quads[:, 3] >= 0][:, [0, 2, 3]]])
    eyes = vertices[EYEBALLS.start : EYEBALLS.stop]
    iod = eyes[eyes[:, 0] > 0].mean(0)[0] - eyes[eyes[:, 0] < 0].mean(0)[0]

    half_width, above, below = 0.72, 0.55, 0.75  # of the picture around the anchor, in inter-ocular distances
    unit = PIXELS_PER_IOD * SUPERSAMPLE
    size = (int(2 * half_width * PIXELS_PER_IOD) * SUPERSAMPLE, int((above + below) * PIXELS_PER_IOD) * SUPERSAMPLE)
    pixels = (vertices - ANCHOR) / iod * unit * [1, -1, 1] + [size[0] / 2, above * unit, 0]

    index = np.arange(len(vertices))
    soft = (index >= GUMS_AND_TONGUE.start) & (index < GUMS_AND_TONGUE.stop)
    follows_jaw, y = jaw[:, 1] < -0.3, vertices[:, 1]
    outer = soft & (vertices[:, 2] > 5.2)  # gums in front; palate, throat and roots stay out
    upper = (index >= UPPER_TEETH.start) & (index < UPPER_TEETH.stop) & (y < -1.5)
    lower = (index >= LOWER_TEETH.start) & (index < LOWER_TEETH.stop) & (y > -5.2)
    parts = {"upper": (outer & ~follows_jaw & (y > -3.2)) | upper, "lower": (outer & follows_jaw & (y < -3.9)) | lower}
    args.output.mkdir(parents=True, exist_ok=True)
    for name, chosen in parts.items():
        faces = triangles[chosen[triangles].all(1)]
        colour = np.where(soft[:, None], GUM, ENAMEL).astype(np.float64)
        Image.fromarray(draw(pixels, faces, colour, size)).save(args.output / f"{name}.png")
    Image.fromarray(draw_tongue((size[0] // SUPERSAMPLE, size[1] // SUPERSAMPLE))).save(args.output / "tongue.png")
    layout = {"pixels_per_iod": PIXELS_PER_IOD, "anchor_px": [size[0] / 2 / SUPERSAMPLE, above * PIXELS_PER_IOD]}
    (args.output / "config.json").write_text(json.dumps(layout, indent=2) + "\n")


if __name__ == "__main__":
    main()
