"""Decides from which stored level of a scan, and how far brought down, a scale is read."""

from collections.abc import Sequence
from dataclasses import dataclass

from training.extraction.config import Tiling


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How a scan is read at a requested scale.

    Args:
        level: the stored level that is read.
        factor: pixels of that level per pixel returned, along x and y; (1, 1): as it is.
        step: level-0 pixels per pixel returned, along x and y.
        mpp: micrometres per pixel returned, truly (mean of x and y).
    """

    level: int
    factor: tuple[float, float]
    step: tuple[float, float]
    mpp: float


def of_tiles(steps: Sequence[float], mpp: tuple[float, float], tiling: Tiling) -> Scale | None:
    """Take a level within the tolerance as it is, else the nearest finer one.

    Args:
        steps: level-0 pixels per pixel of every level.
        mpp: micrometres per level-0 pixel along x and y.
        tiling: the scale asked for.

    Returns:
        None if that were upsampling and is not allowed.
    """
    stored = [[each * step / tiling.mpp for each in mpp] for step in steps]
    away = [max(abs(ratio - 1) for ratio in ratios) for ratios in stored]
    level = min(range(len(stored)), key=away.__getitem__)
    if away[level] <= tiling.mpp_tolerance + 1e-9:
        both = (steps[level], steps[level])
        return Scale(level=level, factor=(1.0, 1.0), step=both, mpp=sum(mpp) / 2 * both[0])
    finer = [level for level, ratios in enumerate(stored) if max(ratios) <= 1]
    if not finer and not tiling.allow_upsampling:
        return None
    step = (tiling.mpp / mpp[0], tiling.mpp / mpp[1])
    return _from(finer[-1] if finer else 0, steps, step, tiling.mpp)


def of_picture(
    steps: Sequence[float], mpp: tuple[float, float], step: tuple[float, float]
) -> Scale:
    """Take the coarsest level that is finer than `step` level-0 pixels per pixel."""
    level = max(k for k, each in enumerate(steps) if each <= min(step) * (1 + 1e-6))
    return _from(level, steps, step, (step[0] * mpp[0] + step[1] * mpp[1]) / 2)


def _from(level: int, steps: Sequence[float], step: tuple[float, float], mpp: float) -> Scale:
    factor = (step[0] / steps[level], step[1] / steps[level])
    return Scale(level=level, factor=factor, step=step, mpp=mpp)
