"""How far an extraction is, and how fast; without torch."""

import time
from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class Pace:
    """How far an extraction is.

    Args:
        num_slides: to do, over all passes.
        planned: slides whose tiles are known, or that need nothing.
        found: tiles that are to be embedded, of these slides.
        tiles: embedded.
        began: when the encoders were ready for the first batch; 0 before.
        seconds: from then to the last batch.
    """

    num_slides: int
    planned: int = 0
    found: int = 0
    tiles: int = 0
    began: float = 0.0
    seconds: float = 0.0

    def add(self, tiles: int) -> None:
        """Count tiles that were embedded just now."""
        self.tiles += tiles
        self.seconds = time.monotonic() - self.began

    @property
    def tiles_per_s(self) -> float:
        """Tiles embedded a second, so far."""
        return self.tiles / self.seconds if self.seconds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Time that is left if the slides to come are like those that were seen."""
        if not self.tiles or not self.planned:
            return None
        return max(0.0, self.found * self.num_slides / self.planned - self.tiles) / self.tiles_per_s
