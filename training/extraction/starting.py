"""Finds where the search begins: a turn and a shift that bring two thumbnails over each other.

Every turn is tried on small pictures, and for each turn all shifts at once, by the correlation over
the area that both pictures show (Padfield 2012, IEEE Trans. Image Process. 21, equations 8 to 14,
by Fourier transforms). The best turns are tried again, finer. Mirrored slides are not tried.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import fft, ndimage

COARSE_PX, FINE_PX = 96, 192
"""Sides of the small pictures, which hold the whole thumbnail at any turn."""

NUM_KEPT = 4
"""Turns tried again after the first look."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Picture:
    """A grey picture with its scale.

    Args:
        grey: float32 [height, width]; zero on glass.
        inside: [height, width], tissue: bool, or its share of a pixel.
        um_per_px: micrometres per pixel along x and y.
    """

    grey: np.ndarray
    inside: np.ndarray
    um_per_px: tuple[float, float]

    @property
    def size_um(self) -> tuple[float, float]:
        """Width and height."""
        height, width = self.grey.shape
        return width * self.um_per_px[0], height * self.um_per_px[1]


def find(fixed: Picture, moving: Picture, *, angle_step: float, min_overlap: float) -> np.ndarray:
    """Give the rigid map [2, 3] from the fixed to the moving picture, micrometres."""
    num = max(1, math.ceil(360 / angle_step))
    angles = [360 * each / num for each in range(num)]
    tried = _try(fixed, moving, angles, num_px=COARSE_PX, min_overlap=min_overlap)
    tried.sort(key=lambda one: one[0], reverse=True)
    finer = np.linspace(-0.5, 0.5, 5) * 360 / num
    angles = sorted({angle + more for _, angle, _ in tried[:NUM_KEPT] for more in finer.tolist()})
    tried = _try(fixed, moving, angles, num_px=FINE_PX, min_overlap=min_overlap)
    return max(tried, key=lambda one: one[0])[2]


def shrunk(picture: Picture, factor: float) -> Picture:
    """Average over squares of about `factor` pixels a side, and leave the rest of the edges out.

    Two pixels stay along each side at least, where there are as many.
    """
    height, width = (max(1, min(round(factor), length // 2)) for length in picture.grey.shape)
    rows, columns = picture.grey.shape[0] // height, picture.grey.shape[1] // width
    kept = np.s_[: rows * height, : columns * width]
    grey, inside = (
        part[kept].reshape(rows, height, columns, width).mean((1, 3))
        for part in (picture.grey, picture.inside.astype(np.float32))
    )
    x, y = picture.um_per_px
    return Picture(grey=grey, inside=inside, um_per_px=(x * width, y * height))


def _try(
    fixed: Picture, moving: Picture, angles: list[float], *, num_px: int, min_overlap: float
) -> list[tuple[float, float, np.ndarray]]:
    """Find the best shift for each turn: correlation, degrees, rigid map."""
    um = max(math.hypot(*fixed.size_um), math.hypot(*moving.size_um)) / num_px
    side = fft.next_fast_len(2 * num_px, real=True)
    fixed, moving = (shrunk(each, um / 2 / max(each.um_per_px)) for each in (fixed, moving))
    first = [fft.rfft2(part, (side, side)) for part in _sampled(fixed, 0.0, um, num_px)]
    centre, centre2 = np.array(fixed.size_um) / 2, np.array(moving.size_um) / 2
    found = []
    for angle in angles:
        second = [fft.rfft2(part, (side, side)) for part in _sampled(moving, angle, um, num_px)]
        score = _correlation(first, second, side, min_overlap)
        row, column = np.unravel_index(int(np.argmax(score)), score.shape)
        shift = (np.array([column, row]) + side // 2) % side - side // 2
        turn = _turn(angle)
        rigid = np.column_stack([turn, centre2 + turn @ (shift * um - centre)])
        found.append((float(score[row, column]), angle, rigid))
    return found


def _sampled(picture: Picture, angle: float, um: float, num_px: int) -> list[np.ndarray]:
    """Sample grey, its square, the shown area and tissue on a turned square around the centre."""
    centre, step = np.array(picture.size_um) / 2, np.array(picture.um_per_px)
    matrix = (_turn(angle) * um / step[:, None])[::-1, ::-1]  # from (row, column) to (row, column)
    offset = (centre / step - 0.5)[::-1] - matrix @ np.full(2, (num_px - 1) / 2)
    shown, grey, tissue = (
        ndimage.affine_transform(part, matrix, offset, (num_px, num_px), order=1, mode="constant")
        for part in (
            np.ones(picture.grey.shape, np.float32),
            picture.grey * picture.inside,
            picture.inside,
        )
    )
    shown = (shown > 0.5).astype(np.float32)
    grey = ndimage.gaussian_filter(grey, 1.0) * shown
    return [grey, grey**2, shown, tissue * shown]


def _turn(angle: float) -> np.ndarray:
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return np.array([[cos, -sin], [sin, cos]])


def _correlation(
    first: list[np.ndarray], second: list[np.ndarray], side: int, min_overlap: float
) -> np.ndarray:
    """Correlate at every shift of the second square; -1 where too little tissue would be shared."""

    def over(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray(fft.irfft2(np.conj(a) * b, (side, side)))

    grey, square, shown, tissue = first
    grey2, square2, shown2, tissue2 = second
    area = np.maximum(over(shown, shown2), 1.0)
    mean, mean2 = over(grey, shown2), over(shown, grey2)
    both = over(grey, grey2) - mean * mean2 / area
    spread = np.maximum(over(square, shown2) - mean**2 / area, 0.0)
    spread2 = np.maximum(over(shown, square2) - mean2**2 / area, 0.0)
    floor = 1e-6 * float(spread.max() * spread2.max()) + 1e-12
    seen = np.minimum(
        over(tissue, shown2) / max(float(tissue[0, 0].real), 1e-6),
        over(shown, tissue2) / max(float(tissue2[0, 0].real), 1e-6),
    )
    score = both / np.sqrt(np.maximum(spread * spread2, floor))
    return np.where(seen >= min_overlap, score, -1.0)
