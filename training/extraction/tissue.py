"""Finds tissue on a thumbnail."""

import numpy as np

from training.extraction.config import Tissue
from training.extraction.masks import Mask
from training.extraction.slides import Slide


def find(slide: Slide, config: Tissue) -> Mask:
    """Find the tissue of a scan on its thumbnail."""
    raise NotImplementedError


def tissue_mask(rgb: np.ndarray, mpp: float, config: Tissue) -> np.ndarray:
    """Tell tissue from pen, fat, blank glass and dark borders.

    Args:
        rgb: uint8 [height, width, 3].
        mpp: micrometres per pixel of it.
        config: the thresholds.

    Returns:
        bool [height, width].
    """
    raise NotImplementedError
