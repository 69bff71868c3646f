"""What a trial leaves beside its predictions, where it is asked for: of the held-out scans.

Bag embeddings, the tiles with the most attention, how far the attention of a slide's scans agrees,
the share of the score's gradient in the directions in which scanners differ, and how far scores
move to the views of scans. Nothing here changes a bit of a result.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from torch import Tensor

from training import attribution
from training.data.loading import Loader
from training.data.sampling import Rows
from training.data.scans import Scans
from training.lanes import Lanes
from training.metrics.attention import rank_correlation, top_overlap
from training.metrics.attribution import Subspace, energy_share

log = logging.getLogger(__name__)

TOP_TILES = 64
"""Tiles of a scan whose attention is kept."""

WITHOUT_ATTENTION = ("mean", "max", "linear_probe")
"""Heads that learn no attention."""

SCANS = ("patient", "slide", "view", "scanner", "cohort", "part")
"""Columns that say which scans the rows of arrays are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """What is asked for.

    Attributes:
        embeddings: bag embeddings z.
        attention: attention of the top tiles, and its agreement between scans.
        gradients: share of the gradient in the scanner subspace.
        views: how far scores move from scans to their augmented views.
    """

    embeddings: bool = False
    attention: bool = False
    gradients: bool = False
    views: bool = False


NOTHING = Keep()


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What a lane left; arrays have a row per held-out scan.

    Attributes:
        scans: which scans the rows are, columns `SCANS`.
        embeddings: [scan, embedding] float32; None unless asked for.
        tile: [scan, 64] int32, tile numbers by falling attention; -1 where there are no more. None
            unless asked for, and for a head that learns no attention.
        weight: [scan, 64] float32, their attention, of a bag's sum of one; zero where none.
        agreement: per slide and pair of scans: slide, first, second (views), shared (places that
            both have), spearman, overlap (of the top 5 %); NaN without shared places.
        gradients: per scan: view, energy (share of the gradient in the scanner subspace).
        measured: for the table of trials: means of the two tables, over slides and over scans, the
            chance level of the energy, the share of the differences between training scans that
            the subspace holds, and `view_shift.NAME`.
    """

    scans: pd.DataFrame
    embeddings: npt.NDArray[np.float32] | None = None
    tile: npt.NDArray[np.int32] | None = None
    weight: npt.NDArray[np.float32] | None = None
    agreement: pd.DataFrame | None = None
    gradients: pd.DataFrame | None = None
    measured: dict[str, float]


class Collector:
    """Collects what the lanes of a pack leave while they are scored.

    Attention is held until all scans of a slide have come by, then its top tiles and its agreement
    alone: a bag's weights are long.

    Args:
        keep: what is asked for.
        scans: of the fold.
        loader: reads bags.
        num_lanes: models that are scored.
        head: kind of their head.
        rows: the scans that are scored.
        held_out: which of them are kept.
    """

    def __init__(
        self,
        keep: Keep,
        scans: Scans,
        loader: Loader,
        *,
        num_lanes: int,
        head: str,
        rows: Rows,
        held_out: npt.NDArray[np.bool_],
    ) -> None:
        self._keep, self._scans, self._loader = keep, scans, loader
        self._attends = keep.attention and head not in WITHOUT_ATTENTION
        self._num_lanes = num_lanes
        self._rows, self._held_out = rows[held_out], held_out
        self._place = np.cumsum(held_out) - 1
        self._embeddings: npt.NDArray[np.float32] | None = None
        shape = num_lanes, len(self._rows), TOP_TILES
        self._top = np.full(shape, -1, np.int32), np.zeros(shape, np.float32)
        slide = scans.table["slide"].to_numpy().astype(str)[self._rows]
        _, self._slide, self._waiting = np.unique(slide, return_inverse=True, return_counts=True)
        self._attention: dict[int, npt.NDArray[np.floating]] = {}
        names = scans.table["scanner"].to_numpy().astype(str)[self._rows]
        self._pairs = attribution.scan_pairs(np.arange(len(self._rows)), slide, names).T
        self._agreement = np.full((num_lanes, len(self._pairs), 2), np.nan)
        self._shared = np.zeros(len(self._pairs), np.int64)

    def __call__(self, places: Rows, bag: Tensor, attention: Tensor) -> None:
        """Take what the models say of some of the scans, see `evaluation.Observe`."""
        chosen = np.flatnonzero(self._held_out[places])
        if not len(chosen):
            return
        own = self._place[places[chosen]]
        if self._keep.embeddings:
            found = bag[:, chosen].float().cpu().numpy()
            if self._embeddings is None:
                shape = self._num_lanes, len(self._rows), found.shape[-1]
                self._embeddings = np.empty(shape, np.float32)
            self._embeddings[:, own] = found
        if self._attends:
            weights = attention[:, chosen].cpu().numpy()
            counts = self._scans.table["num_tiles"].to_numpy()[self._rows[own]]
            for scan, place in enumerate(own.tolist()):
                self._attend(place, weights[:, scan, : counts[scan]])

    def finish(self, lanes: Lanes, usable: Sequence[bool]) -> list[Kept | None]:
        """Give what each lane left; None for one that is not usable.

        Args:
            lanes: the models, as they were scored.
            usable: whether a lane's result counts.
        """
        subspace = attribution.subspace(self._scans, self._loader) if self._keep.gradients else None
        if subspace is not None and not subspace.axes.shape[1]:
            log.warning("no training slide has two scans that differ: no gradient energy")
            subspace = None
        found: list[Kept | None] = []
        for lane, counts in enumerate(usable):
            gradients = None
            if counts and subspace is not None:
                raw = attribution.gradients(
                    lanes, lane, self._scans, self._loader, self._rows
                ).numpy()
                gradients = energy_share(raw, subspace.axes)
            found.append(self._kept(lane, subspace, gradients) if counts else None)
        return found

    def _kept(
        self,
        lane: int,
        subspace: Subspace | None,
        gradients: npt.NDArray[np.float64] | None,
    ) -> Kept:
        scans = self._scans.table[list(SCANS)].iloc[self._rows].reset_index(drop=True)
        measured: dict[str, float] = {}
        agreement = energy = None
        if self._attends:
            agreement = self._agreements(scans, lane)
            slides = agreement.groupby("slide")[["spearman", "overlap"]].mean().mean()
            measured = {f"attention_{name}": float(slides[name]) for name in slides.index}
        if gradients is not None and subspace is not None:
            energy = pd.DataFrame({"view": scans["view"], "energy": gradients})
            measured |= {
                "gradient_energy": float(energy["energy"].mean()),
                "gradient_chance": subspace.axes.shape[1] / subspace.axes.shape[0],
                "gradient_subspace": subspace.share,
            }
        return Kept(
            scans=scans,
            embeddings=None if self._embeddings is None else self._embeddings[lane],
            tile=self._top[0][lane] if self._attends else None,
            weight=self._top[1][lane] if self._attends else None,
            agreement=agreement,
            gradients=energy,
            measured=measured,
        )

    def _agreements(self, scans: pd.DataFrame, lane: int) -> pd.DataFrame:
        first, second = self._pairs.T
        view = scans["view"].to_numpy()
        return pd.DataFrame(
            {
                "slide": scans["slide"].to_numpy()[first],
                "first": view[first],
                "second": view[second],
                "shared": self._shared,
                "spearman": self._agreement[lane, :, 0],
                "overlap": self._agreement[lane, :, 1],
            }
        )

    def _attend(self, place: int, weights: npt.NDArray[np.floating]) -> None:
        """Note the attention of a scan, [lane, tile], and compare it once its slide is whole."""
        numbers = self._loader.tile_numbers(int(self._rows[place]))
        order = np.argsort(-weights, axis=1, kind="stable")[:, :TOP_TILES]
        self._top[0][:, place, : order.shape[1]] = numbers[order]
        self._top[1][:, place, : order.shape[1]] = np.take_along_axis(weights, order, axis=1)
        self._attention[place] = weights.copy()
        slide = int(self._slide[place])
        self._waiting[slide] -= 1
        if self._waiting[slide]:
            return
        for pair in np.flatnonzero(self._slide[self._pairs[:, 0]] == slide).tolist():
            self._compare(pair)
        for member in np.flatnonzero(self._slide == slide).tolist():
            del self._attention[member]

    def _compare(self, pair: int) -> None:
        first, second = self._pairs[pair].tolist()
        shared = self._loader.common(int(self._rows[first]), int(self._rows[second]))
        a, b = self._attention[first][:, shared.first], self._attention[second][:, shared.second]
        self._shared[pair] = shared.matched
        self._agreement[:, pair, 0] = rank_correlation(a, b)
        self._agreement[:, pair, 1] = top_overlap(a, b)
