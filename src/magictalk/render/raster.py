"""Rasterise a moving triangle mesh into a backward map: where in the picture does each output pixel come from?"""

import numba
import numpy as np
from numpy.typing import NDArray


@numba.njit(cache=True, nogil=True, fastmath=True)
def rasterise(
    target: NDArray[np.float32],
    depth: NDArray[np.float32],
    source: NDArray[np.float32],
    triangles: NDArray[np.int32],
    map_xy: NDArray[np.float32],
    nearest: NDArray[np.float32],
) -> None:
    """Write the source position of every pixel that a triangle covers.

    Args:
        target: ``[N, 2]`` where the vertices are now, in pixels of the map.
        depth: ``[N]`` toward the viewer; the nearest triangle wins.
        source: ``[N, 2]`` where they were in the picture.
        triangles: ``[F, 3]`` vertex indices, either winding.
        map_xy: ``[H, W, 2]`` source positions, written in place.
        nearest: ``[H, W]`` depth buffer, written in place.
    """
    height, width = nearest.shape
    for f in range(triangles.shape[0]):
        a, b, c = triangles[f, 0], triangles[f, 1], triangles[f, 2]
        ax, ay = target[a, 0], target[a, 1]
        bx, by = target[b, 0] - ax, target[b, 1] - ay
        cx, cy = target[c, 0] - ax, target[c, 1] - ay
        area = bx * cy - cx * by
        if abs(area) < 1e-6:
            continue
        top, bottom = min(0.0, by, cy) + ay, max(0.0, by, cy) + ay
        y0, y1 = max(0, int(np.ceil(top - 1e-3))), min(height - 1, int(np.floor(bottom + 1e-3)))
        # every quantity is linear in x and y: value = v0 + vx * dx + vy * dy
        ux, uy = cy / area, -cx / area
        wx, wy = -by / area, bx / area
        for y in range(y0, y1 + 1):
            dy = y - ay
            # the span where the three barycentric weights are not negative
            low, high = -1e9, 1e9
            for edge in range(3):
                if edge == 0:
                    slope, at = ux, uy * dy
                elif edge == 1:
                    slope, at = wx, wy * dy
                else:
                    slope, at = -ux - wx, 1.0 - (uy + wy) * dy
                if slope > 1e-12:
                    low = max(low, -at / slope)
                elif slope < -1e-12:
                    high = min(high, -at / slope)
                elif at < -1e-6:
                    low, high = 1.0, 0.0
            x0, x1 = max(0, int(np.ceil(low + ax - 1e-3))), min(width - 1, int(np.floor(high + ax + 1e-3)))
            for x in range(x0, x1 + 1):
                dx = x - ax
                u = ux * dx + uy * dy
                w = wx * dx + wy * dy
                z = depth[a] + u * (depth[b] - depth[a]) + w * (depth[c] - depth[a])
                if z >= nearest[y, x]:
                    nearest[y, x] = z
                    map_xy[y, x, 0] = (
                        source[a, 0] + u * (source[b, 0] - source[a, 0]) + w * (source[c, 0] - source[a, 0])
                    )
                    map_xy[y, x, 1] = (
                        source[a, 1] + u * (source[b, 1] - source[a, 1]) + w * (source[c, 1] - source[a, 1])
                    )
