"""Reads the bags of a batch into padded tensors.

Bags that fit into `resident_bytes` together are read once and kept on the device, in their stored
type; larger sets, and those that a GPU has no room for, are read from the shards' memory maps each
time, the next batch while the last one is used. Both give the same tensors. What the bags leave of
`resident_bytes` holds the places that pairs of scans share; where it does not suffice, these are
found anew for each batch.
"""

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from training.data import pairing, resident, sampling, survival
from training.data.bags import BagReader, is_finite
from training.data.input_map import InputMap
from training.data.sampling import Draw, Key, Rows, TilePair
from training.data.scans import Scans
from training.data.staging import Stage
from training.data.survival import BagOutcomes
from training.types import Bags, Mask

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch on the device: routine bags, then the pairs' first scans, then their second scans.

    Labels, weights and groups are those of the bags, whatever pair losses compare.

    Attributes:
        bags: padded embeddings.
        mask: True where an instance is real.
        label: class number of each bag.
        weight: one over the bags of the slide in this batch, so that a slide counts once.
        num_routine: bags before the pairs.
        matched: True where instance t of both scans of a pair is the same tissue place.
        first_scanner: scanner number of each pair's first scan.
        second_scanner: that of the second.
        patient: patient number of each pair.
        partner: the pair whose second scan pair losses compare with the first of this one; None:
            its own; empty: they compare nothing.
        groups: group number of each bag, -1 for none, by the columns that the losses compare.
        key: names the step, for draws of its own.
        outcomes: of a survival task; None for classes.
    """

    bags: Bags
    mask: Mask
    label: Int[Tensor, " bag"]
    weight: Float[Tensor, " bag"]
    num_routine: int
    matched: Bool[Tensor, "pair instance"]
    first_scanner: Int[Tensor, " pair"]
    second_scanner: Int[Tensor, " pair"]
    patient: Int[Tensor, " pair"]
    groups: dict[str, Int[Tensor, " bag"]]
    key: Key
    partner: Int[Tensor, " compared"] | None = None
    outcomes: BagOutcomes | None = None

    @property
    def first(self) -> slice:
        """Positions of the pairs' first scans."""
        return slice(self.num_routine, self.num_routine + len(self.patient))

    @property
    def second(self) -> slice:
        """Positions of the pairs' second scans."""
        return slice(self.num_routine + len(self.patient), len(self.label))

    def anchors(self, values: Tensor) -> Tensor:
        """Give, of values by pair, those of the first scans that pair losses compare."""
        return values if self.partner is None else values[: len(self.partner)]

    def partners(self, values: Tensor) -> Tensor:
        """Give, of values by pair, those of the second scans, each with its first."""
        return values if self.partner is None else values[self.partner]

    def sides(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Give, of values by bag, those of the first scans and those compared with them."""
        return self.anchors(values[self.first]), self.partners(values[self.second])


class Loader:
    """Reads bags of a fold.

    Args:
        reader: reader of the shards.
        scans: the scans of the fold; rows are its row numbers.
        dtype: type of the tensors.
        device: where they lie.
        resident_bytes: keep all bags in memory if they take no more than this; a bound on all that
            is kept.
        input_map: moves every bag that is read.
    """

    def __init__(
        self,
        reader: BagReader,
        scans: Scans,
        *,
        dtype: torch.dtype,
        device: torch.device,
        resident_bytes: int,
        input_map: InputMap | None = None,
    ) -> None:
        self._reader, self._scans = reader, scans
        self._dtype, self._device = dtype, device
        self.input_map = None if input_map is None else input_map.to(dtype, device)
        self._index = list(scans.table.itertuples(index=False))
        self._num_tiles = scans.table["num_tiles"].to_numpy(np.int64)
        self._slide: list[str] = scans.table["slide"].tolist()
        self._slide_number = np.unique(self._slide, return_inverse=True)[1]
        self._start = np.concatenate([[0], np.cumsum(self._num_tiles)])
        self._shared: dict[tuple[int, int], npt.NDArray[np.int32]] = {}
        self._stored = np.result_type(*{np.dtype(kind) for kind in scans.table["dtype"]})
        self._stage = Stage(device, dtype)
        self._resident = self._recall(resident_bytes)
        outcomes = scans.outcomes
        whole = outcomes is not None and outcomes.settings.risk_set == "cohort"
        self._cohort = survival.cohort(outcomes, self._put) if outcomes and whole else None
        self._free_bytes = resident_bytes - (0 if self._resident is None else self._resident.nbytes)

    def _recall(self, resident_bytes: int) -> Tensor | None:
        """Keep all bags in memory if there is room, perhaps from the pack before."""
        numbers = (int(self._start[-1]) + 1) * self._scans.in_dim
        if numbers * self._stored.itemsize > resident_bytes:
            resident.forget()
            return None
        root, device = self._reader.root, self._device
        try:
            return resident.recall(root, self._index, self._read_all, device=device)
        except torch.OutOfMemoryError:
            log.warning("out of memory: bags of %s are read for each batch", root)
            return None

    def _read_all(self) -> Tensor:
        """Concatenate all bags, with a row of zeros at the end for padding."""
        everything = np.zeros((int(self._start[-1]) + 1, self._scans.in_dim), self._stored)
        for row, entry in enumerate(self._index):
            everything[self._start[row] : self._start[row + 1]] = self._reader.whole(entry)
        return torch.from_numpy(everything).to(self._device)

    def whole(self, rows: Rows) -> tuple[Bags, Mask]:
        """Read whole bags."""
        return self._read(rows, [np.arange(count) for count in self._num_tiles[rows]])

    def batches(self, draws: Iterable[Draw], tiles_per_bag: int | None) -> Iterator[Batch]:
        """Read batches in order; each, unless all bags are in memory, while the last one is used.

        The thread takes nothing with it: the same batches come as from one call after the other.
        """
        if self._resident is not None:
            for draw in draws:
                yield self.batch(draw, tiles_per_bag)
            return
        with ThreadPoolExecutor(1, thread_name_prefix="loader") as thread:
            coming: deque[Future[Batch]] = deque()
            for draw in draws:
                coming.append(thread.submit(self.batch, draw, tiles_per_bag))
                if len(coming) > 1:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()

    def batch(self, draw: Draw, tiles_per_bag: int | None) -> Batch:
        """Read the bags of a draw, with the tiles that its key names."""
        pairs = [self._tile_pair(a, b, draw, tiles_per_bag) for a, b in draw.pairs.tolist()]
        chosen = [
            *(self._tiles(row, draw, tiles_per_bag) for row in draw.routine.tolist()),
            *(pair.first for pair in pairs),
            *(pair.second for pair in pairs),
        ]
        first, second = draw.pairs.T
        rows = np.concatenate([draw.routine, first, second])
        bags, mask = self._read(rows, chosen)
        num_matched = np.array([pair.matched for pair in pairs], np.int64)
        matched = np.arange(bags.shape[1]) < num_matched[:, None]
        scans = self._scans
        return Batch(
            bags=bags,
            mask=mask,
            label=self._put(scans.label[rows]),
            weight=self._put(self._weights(rows)).to(self._dtype),
            num_routine=len(draw.routine),
            matched=self._put(matched),
            first_scanner=self._put(scans.scanner[first]),
            second_scanner=self._put(scans.scanner[second]),
            patient=self._put(scans.patient[first]),
            groups={name: self._put(group[rows]) for name, group in scans.groups.items()},
            key=draw.key,
            partner=None if draw.partner is None else self._put(draw.partner),
            outcomes=self._outcomes(rows),
        )

    def _tiles(self, row: int, draw: Draw, limit: int | None) -> Rows:
        count = int(self._num_tiles[row])
        return sampling.tiles(count, limit, key=draw.key, slide=self._slide[row])

    def _tile_pair(self, a: int, b: int, draw: Draw, limit: int | None) -> TilePair:
        counts = (int(self._num_tiles[a]), int(self._num_tiles[b]))
        if a == b:
            return pairing.halves(counts[0], limit, key=draw.key, slide=self._slide[a])
        shared = self.common(a, b)
        return sampling.pair_tiles(shared, counts, limit, key=draw.key, slide=self._slide[a])

    def common(self, a: int, b: int) -> TilePair:
        """Find the places that two scans share, or remember them."""
        if (a, b) in self._shared:
            first, second = self._shared[a, b].astype(np.int64)
            return TilePair(first, second, len(first))
        found = sampling.common(self.tile_numbers(a), self.tile_numbers(b))
        small = np.stack(found[:2]).astype(np.int32)
        if small.nbytes <= self._free_bytes:
            self._free_bytes -= small.nbytes
            self._shared[a, b] = small
        return found

    def tile_numbers(self, row: int) -> npt.NDArray[np.int32]:
        """Read the tile numbers of a scan, in the order of its bag."""
        return self._reader.tiles(self._index[row])

    def _outcomes(self, rows: Rows) -> BagOutcomes | None:
        outcomes = self._scans.outcomes
        if outcomes is None:
            return None
        weights = self._weights(rows)
        found = survival.of_bags(outcomes, rows, weights, put=self._put, cohort=self._cohort)
        return found._replace(weight=found.weight.to(self._dtype))

    def _weights(self, rows: Rows) -> np.ndarray:
        slides = self._slide_number[rows]
        return 1.0 / np.bincount(slides)[slides]

    def _read(self, rows: Rows, tiles: Sequence[Rows]) -> tuple[Bags, Mask]:
        """Read the tiles of each bag as the model sees them."""
        bags, mask = self._padded(rows, tiles)
        return (bags if self.input_map is None else self.input_map.apply(bags, mask, rows)), mask

    def _padded(self, rows: Rows, tiles: Sequence[Rows]) -> tuple[Bags, Mask]:
        """Read the tiles of each bag and fill up with zeros."""
        counts = np.array([len(chosen) for chosen in tiles])
        mask = np.arange(counts.max()) < counts[:, None]
        if self._resident is not None:
            place = np.full(mask.shape, len(self._resident) - 1)
            place[mask] = np.concatenate(tiles) + np.repeat(self._start[rows], counts)
            bags = self._resident[self._put(place.ravel())].to(self._dtype)
            return bags.view(*mask.shape, -1), self._put(mask)
        return self._stage.send(self.stored(rows, tiles)), self._put(mask)

    def stored(self, rows: Rows, tiles: Sequence[Rows]) -> np.ndarray:
        """Read the tiles of each bag as stored, filled up with zeros, [bag, tile, feature].

        The array is good until the next but one is read.
        """
        counts = [len(chosen) for chosen in tiles]
        padded = self._stage.take((len(rows), max(counts), self._scans.in_dim), self._stored)
        for mine, row, chosen, count in zip(padded, rows.tolist(), tiles, counts, strict=True):
            entry = self._index[row]
            mine[count:] = 0
            if count == self._num_tiles[row] and (chosen[1:] > chosen[:-1]).all():
                mine[:count] = self._reader.whole(entry)
                continue
            mine[:count] = self._reader.embeddings(entry)[chosen]
            if not is_finite(mine[:count]):
                self._reader.refuse_not_finite(entry)
        return padded

    def _put(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self._device)
