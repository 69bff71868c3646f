"""One pass over slides: plan, decode, encode, and stage a bag for each view and encoder."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from training.errors import DataError
from training.extraction import decode, encoders, encoding, recipes, slide_plan, staging
from training.extraction.config_embed import EmbedConfig
from training.extraction.decode import Decoded, Job
from training.extraction.encoders import Loaded
from training.extraction.encoding import Clock, Encoded
from training.extraction.pace import Pace
from training.extraction.recipes import Recipes
from training.extraction.requests import Chosen
from training.extraction.slide_plan import Part, Plan
from training.extraction.slide_table import Scan

PLANNERS = 4
"""Processes that plan slides, at most; the others decode."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Planned:
    """A slide's plan, and what its bags are made by.

    Args:
        plan: what is read.
        recipes: by encoder and view.
        pending: by view, the encoders whose bag is not there yet.
    """

    plan: Plan
    recipes: Recipes
    pending: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Planner:
    """Plans slides; called in processes of their own."""

    data: Path
    config: EmbedConfig
    chosen: tuple[Chosen, ...]
    kept: Recipes

    def __call__(self, item: tuple[str, tuple[Scan, ...]]) -> Planned:
        """Plan what is not there yet of a slide."""
        slide, scans = item
        made = recipes.of_slide(scans, self.config, self.chosen)
        views = {scan.name: slide_plan.view_names(scan, self.config) for scan in scans}
        pending = {
            view: tuple(
                name for name, known in made.items() if not self._is_there(name, view, known[view])
            )
            for names in views.values()
            for view in names
        }
        wanted = {scan: [v for v in names if pending[v]] for scan, names in views.items()}
        found = Plan(slide=slide, failed={})
        if any(wanted.values()):
            found = slide_plan.plan(
                slide,
                scans,
                self.config,
                wanted=wanted,
                pictures=self.data / "thumbnails",
                scratch=staging.scratch(self.data),
            )
        return Planned(plan=found, recipes=made, pending=pending)

    def _is_there(self, encoder: str, view: str, recipe: str) -> bool:
        if self.kept[encoder].get(view) == recipe:
            return True
        facts = staging.look(staging.path(self.data, encoder, view))
        return facts is not None and facts.recipe == recipe


@dataclass(slots=True, kw_only=True, eq=False)
class _Open:
    """A part that is being embedded.

    Args:
        part: which.
        wanted: number of the look, view and encoder of each bag.
        bags: float32 [tile, dim] each.
        whole: bool [tile]: not broken.
        left: tiles to come.
    """

    part: Part
    wanted: list[tuple[int, str, str]]
    bags: list[np.ndarray] = field(default_factory=list)
    whole: np.ndarray
    left: int


@dataclass(slots=True, kw_only=True, eq=False)
class Pass:
    """One pass of encoders that get the same tiles.

    Args:
        data: the data set.
        config: with the tiling of these encoders.
        chosen: the encoders.
        device: where they are.
        workers: processes that decode.
        pace: is told what is done.
        on_progress: called after every batch.
        clock: is told where time goes.
        failed: by scan, what went wrong.
        notes: what the user should know.
        recipes: by encoder and view, of all slides.
    """

    data: Path
    config: EmbedConfig
    chosen: Sequence[Chosen]
    device: str
    workers: int
    pace: Pace
    on_progress: Callable[[Pace], None] | None = None
    clock: Clock = field(default_factory=Clock)
    failed: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    recipes: Recipes = field(default_factory=dict)
    _open: dict[int, _Open] = field(default_factory=dict)
    _loaded: dict[str, Loaded] = field(default_factory=dict)
    _near: str = ""

    def run(self, slides: Mapping[str, tuple[Scan, ...]]) -> None:
        """Embed what is missing of slides."""
        (self.data / "thumbnails").mkdir(parents=True, exist_ok=True)
        names = [each.encoder.name for each in self.chosen]
        self._near = next(iter(slides), "")
        self.recipes = {name: {} for name in names}
        for name in names:
            staging.begin(self.data, name)
        planner = Planner(
            data=self.data,
            config=self.config,
            chosen=tuple(self.chosen),
            kept={name: staging.kept(self.data, name) for name in names},
        )
        planned = decode.each(planner, slides.items(), workers=min(self.workers, PLANNERS))
        device = torch.device(self.device)
        batches = decode.batches(
            self._jobs(planned), workers=self.workers, pin=device.type == "cuda"
        )
        try:
            for encoded in encoding.encode(batches, self._wanted, device=device, clock=self.clock):
                self._take(encoded)
                if self.on_progress:
                    self.on_progress(self.pace)
        except torch.OutOfMemoryError as error:
            who = ", ".join(each.encoder.name for each in self.chosen)
            raise DataError(
                f"{who}: no room in the GPU's memory: {str(error).splitlines()[0]}",
                hint="a smaller batch_size in --config, or fewer encoders at once",
            ) from error
        except RuntimeError as error:
            if "DataLoader worker (pid" not in str(error):  # one that raised is our bug
                raise
            raise DataError(
                f"a process that decodes slides died, near slide {self._near!r}: "
                f"{str(error).splitlines()[0]}",
                hint="out of memory? fewer --workers; the same command goes on from here",
            ) from error

    def _jobs(self, planned: Iterator[Planned]) -> Iterator[Job]:
        """List the batches of all slides, as their plans come in."""
        number = 0
        for each in planned:
            self._near = each.plan.slide
            self.pace.planned += 1
            for name, made in each.recipes.items():
                self.recipes[name] |= made
            self.failed |= each.plan.failed
            self.notes += each.plan.notes
            for part in each.plan.parts:
                self._open[number] = self._begin(part, each.pending)
                yield from self._split(number, part)
                number += 1

    def _begin(self, part: Part, pending: Mapping[str, tuple[str, ...]]) -> _Open:
        looks = list(part.looks)
        wanted = [(looks.index(v), v, encoder) for v in looks for encoder in pending[v]]
        count = len(part.tile)
        self.pace.found += count
        return _Open(part=part, wanted=wanted, whole=np.ones(count, bool), left=count)

    def _split(self, number: int, part: Part) -> Iterator[Job]:
        for start in range(0, len(part.tile), self.config.batch_size):
            yield Job(
                part=number,
                start=start,
                path=part.scan.path,
                mpp=part.scan.mpp,
                tiling=self.config.tiling,
                coords=part.coords[start : start + self.config.batch_size],
                looks=tuple(part.looks.values()),
            )

    def _wanted(self, batch: Decoded) -> list[tuple[int, Loaded]]:
        if batch.error:
            return []
        if not self._loaded:
            self._loaded = {
                each.encoder.name: encoders.load(
                    each.encoder, each.weights, device=self.device, precision=each.precision
                )
                for each in self.chosen
            }
        self.pace.began = self.pace.began or time.monotonic()
        opened = self._open[batch.part]
        if not opened.bags:
            opened.bags = [
                np.empty((len(opened.whole), self._loaded[name].encoder.dim), np.float32)
                for _, _, name in opened.wanted
            ]
        return [(look, self._loaded[name]) for look, _, name in opened.wanted]

    def _take(self, encoded: Encoded) -> None:
        """Put a batch into its bags, and stage them when they are full."""
        batch = encoded.batch
        opened = self._open[batch.part]
        stop = batch.start + self.config.batch_size
        count = len(opened.whole[batch.start : stop])
        opened.left -= count
        if batch.error:
            self.pace.found -= count
            self.failed.setdefault(opened.part.scan.name, batch.error)
        else:
            self.pace.add(count)
            opened.whole[batch.start : stop] = batch.whole
            for bag, embeddings in zip(opened.bags, encoded.embeddings, strict=True):
                bag[batch.start : stop] = embeddings
        if not opened.left:
            del self._open[batch.part]
            if opened.part.scan.name not in self.failed:
                self._stage(opened)

    def _stage(self, opened: _Open) -> None:
        part, whole = opened.part, opened.whole
        scan, broken = part.scan.name, int((~whole).sum())
        text = f"{broken} of {len(whole)} tiles are broken"
        if broken > self.config.max_broken * len(whole) or not whole.any():
            self.failed[scan] = f"{part.scan.path}: {text}"
            return
        if broken:
            self.notes.append(f"scan {scan!r}: {text} and left out")
        for (_, view, name), bag in zip(opened.wanted, opened.bags, strict=True):
            found = bag[whole]
            if not np.isfinite(found).all():
                self.failed[scan] = f"encoder {name!r} gives numbers that are not finite"
                return
            try:
                staging.write(
                    staging.path(self.data, name, view),
                    found,
                    tile=part.tile[whole],
                    coords=part.coords[whole],
                    recipe=self.recipes[name][view],
                    mpp_read=part.mpp_read,
                    tile_um=part.mpp_read * self.config.tiling.tile_px,
                )
            except OSError as error:
                self.failed[scan] = f"{self.data}: cannot be written: {error}"
                return
