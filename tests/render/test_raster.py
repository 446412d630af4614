"""The rasteriser against SciPy's piecewise-linear interpolation over the same triangles."""

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.interpolate import LinearNDInterpolator
from scipy.spatial import Delaunay

from magictalk.render.raster import rasterise


def run(target, depth, source, triangles, height, width):
    map_xy = np.full((height, width, 2), np.nan, np.float32)
    rasterise(
        target.astype(np.float32), depth.astype(np.float32), source.astype(np.float32),
        triangles.astype(np.int32), map_xy, np.full((height, width), -np.inf, np.float32),
    )  # fmt: skip
    return map_xy


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), width=st.integers(5, 60), height=st.integers(5, 60))
def test_equals_linear_interpolation(seed, width, height):
    rng = np.random.default_rng(seed)
    target = rng.uniform(-5, max(width, height) + 5, (30, 2))
    source = rng.uniform(0, 100, (30, 2))
    mesh = Delaunay(target)
    made = run(target, np.zeros(30), source, mesh.simplices, height, width)
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    expected = LinearNDInterpolator(mesh, source)(np.stack([x, y], -1).reshape(-1, 2)).reshape(height, width, 2)
    both = np.isfinite(made).all(-1) & np.isfinite(expected).all(-1)
    # only pixels within rounding of the hull's edge may differ in being covered
    assert (np.isfinite(made).all(-1) != np.isfinite(expected).all(-1)).sum() <= 3
    assume(both.any())  # a tiny picture may lie beside the mesh
    off = np.abs(made[both] - expected[both])
    assert (off < 0.05).mean() > 0.99 and off.max() < 1  # float32: slivers lose a few digits


def test_nearest_triangle_wins_whatever_the_order():
    square = np.array([[0, 0], [9, 0], [9, 9], [0, 9]], float)
    target, triangles = np.concatenate([square, square]), np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
    source = np.concatenate([square, square + 50])
    depth = np.array([0, 0, 0, 0, 1, 1, 1, 1.0])
    for order in (triangles, triangles[::-1]):
        assert (run(target, depth, source, order, 10, 10) >= 50).all()


def test_winding_and_degenerate_triangles_do_not_matter():
    target = np.array([[0, 0], [9, 0], [0, 9], [4, 4]], float)
    one = run(target, np.zeros(4), target, np.array([[0, 1, 2]]), 10, 10)
    other = run(target, np.zeros(4), target, np.array([[0, 2, 1], [3, 3, 1]]), 10, 10)
    np.testing.assert_array_equal(one, other)
