"""The state of a pack in training: its lanes, where each is, and how it goes through an epoch."""

import copy
import dataclasses
import math
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training import (
    RESULTS_VERSION,
    devices,
    evaluation,
    judging,
    lineage,
    memory,
    objective,
    seeds,
)
from training.choosing import Choice, require_shape
from training.config import TrialConfig
from training.config_lanes import loss_key
from training.data import folds, groups, inputs, noise, pairing, sampling, scans
from training.data.bags import BagReader
from training.data.index import Dataset
from training.data.loading import Batch, Loader
from training.data.mixing import mix_style
from training.data.noise import add_noise
from training.dropout import draw_dropped
from training.identity import canonical
from training.lanes import Lanes
from training.optimiser import LaneAdamW, schedule
from training.progress import Progress


class Session:
    """Trains the lanes of a pack.

    Lanes that have ended leave the stack, but one stays as a companion where a single lane is left.

    Args:
        configs: one per lane, at least two, all of one lane key.
        dataset: what they read.
        device: where they train.
        resident_bytes: see `Loader`.
        held_out_views: read the views of scans to test, to score them in the end.
        gpu_share: see `trainer.train`.
    """

    def __init__(
        self, configs: Sequence[TrialConfig], dataset: Dataset, *, device: torch.device,
        resident_bytes: int, held_out_views: bool = False, gpu_share: float = 1.0,
    ) -> None:  # fmt: skip
        self.configs, self.device, self._gpu_share = list(configs), device, gpu_share
        shared = self.shared = configs[0]
        devices.prepare(device, shared.precision)
        fingerprint, split = folds.identify(dataset, shared)
        self.identity = _identity(configs, fingerprint, device)
        self.scans = scans.read(
            dataset, shared, split, held_out_views=held_out_views,
            columns={column for config in configs for column in groups.columns(config)},
        )  # fmt: skip
        self.pool = sampling.pool(
            self.scans, paired=shared.views == "all", augmented=shared.pairs == "augmented"
        )
        self.judge = judging.judge(self.scans, shared.stopping)
        self.validation = self.judge.validation if self.judge is not None else None
        reader = BagReader(dataset.root)
        self.loader = Loader(
            reader,
            self.scans,
            dtype=objective.dtype(shared),
            device=device,
            resident_bytes=resident_bytes,
            input_map=inputs.fit(shared, reader, self.scans, self.pool),
        )
        self.num_tiles = self.scans.table["num_tiles"].to_numpy(np.int64)
        self.steps_per_epoch = sampling.steps_per_epoch(self.pool, shared.sampling)
        kinds = [loss_key(config) for config in configs]
        self.kinds = [list(dict.fromkeys(kinds)).index(kind) for kind in kinds]
        self.noise: Tensor | None = None
        if shared.regularisation.noise:
            trained = self.scans.of("train", seen_only=True)
            self.noise = shared.regularisation.noise * noise.spread(self.loader, trained)
        self._start()

    def _start(self) -> None:
        """Initialise every lane from its own seed."""
        self.epoch = 0
        self.progress = [Progress() for _ in self.configs]
        models = [
            objective.initialise(
                config,
                seeds.derive(config.seed, "initialisation"),
                in_dim=self.scans.in_dim,
                num_outputs=self.scans.num_outputs,
                num_groups=self.scans.num_groups,
                num_patients=self.scans.num_patients,
                base=self.scans.base,
            )
            for config in self.configs
        ]
        together = memory.lanes_together(
            self.device, self.configs, models, scans=self.scans, pool=self.pool,
            gpu_share=self._gpu_share,
        )  # fmt: skip
        self.lanes = Lanes(models, device=self.device, together=together, kinds=self.kinds)
        self.generators = [
            torch.Generator(self.device).manual_seed(seeds.derive(config.seed, "dropout"))
            for config in self.configs
        ]
        self.optimiser = LaneAdamW(self.lanes, [config.optim for config in self.configs])
        self.choice = Choice(self.lanes.flat, self.lanes.state, self.shared.stopping)
        self._occupy(range(len(self.configs)))

    def _occupy(self, slots: Sequence[int]) -> None:
        """Note which lane is at which position of the stack."""
        self.slots = list(slots)
        losses = [self.configs[lane].losses for lane in self.slots]
        self._weights, self._temperatures = objective.factors(losses, self.lanes.flat)

    @property
    def training(self) -> list[int]:
        """The positions whose lanes still train."""
        states = [self.progress[lane].state for lane in self.slots]
        return [place for place, state in enumerate(states) if state == "training"]

    def run_epoch(self, stop: Callable[[], bool] | None = None) -> bool:
        """Train an epoch, validate, and let lanes end that have to.

        Args:
            stop: asked before each step.

        Returns:
            False where `stop` was true: only `restore` is of use then.
        """
        self.epoch += 1
        losses = self._train(stop)
        if losses is None:
            return False
        self._judge(losses)
        self._part()
        return True

    def retire(self, lanes: Collection[int]) -> None:
        """End some of the lanes that train, after an epoch."""
        for lane in lanes:
            self.progress[lane].state = "retired"
        self._part()

    def _part(self) -> None:
        """Take lanes that have ended out of the stack."""
        stay = self.training
        if len(stay) == 1:
            stay = sorted([stay[0], 0 if stay[0] else 1])
        if stay and len(stay) < len(self.slots):
            self.lanes.select(stay)
            self.optimiser.select(self.lanes, stay)
            self.generators = [self.generators[place] for place in stay]
            self._occupy([self.slots[place] for place in stay])

    def _train(self, stop: Callable[[], bool] | None) -> Tensor | None:
        """Take the steps of an epoch; give the mean losses, [lane, total + task + robustness]."""
        shared = self.shared
        sums = self.lanes.flat.new_zeros(len(self.lanes), 2 + self._weights.shape[1])
        key = (shared.draw_seed, shared.fold, self.epoch)
        draws = (
            pairing.compare(draw, shared.pairs, patient=self.scans.patient)
            for draw in sampling.epoch(self.pool, shared.sampling, key=key)
        )
        for batch in self.loader.batches(draws, shared.sampling.tiles_per_bag):
            if stop is not None and stop():
                return None
            sums += self._step(add_noise(mix_style(batch, shared.mixstyle), self.noise))
        return sums / self.steps_per_epoch

    def _step(self, batch: Batch) -> Tensor:
        """Take a step; give the losses, [lane, total + task + robustness]."""
        lanes, head, found = self.lanes, self.shared.head, []
        for group in lanes.groups:
            dropped = draw_dropped(
                self.generators[group.where],
                (batch.bags.shape[0], batch.bags.shape[1]),
                widths=head.embed_dims,
                dropout=head.dropout,
            )
            weights, temperatures = self._weights[group.where], self._temperatures[group.where]
            total, parts = objective.step(lanes, group, batch, dropped, weights, temperatures)
            group.backward(total)
            found.append(torch.cat([total.detach()[:, None], parts.detach()], dim=1))
        done = self.optimiser.steps
        self.optimiser.step(schedule(self.shared.optim, done, self.steps_per_epoch))
        return torch.cat(found)

    def _judge(self, losses: Tensor) -> None:
        """Record the epoch of each training lane, keep its weights if it is the best so far."""
        finite = self.lanes.flat.isfinite().all(1).tolist()
        scores = None
        if self.judge is not None:
            rows = self.judge.validation.rows
            scores = evaluation.score(self.lanes, self.loader, rows, self.num_tiles)
        last = schedule(self.shared.optim, self.optimiser.steps - 1, self.steps_per_epoch)
        for place in self.training:
            lane = self.slots[place]
            names = ["loss", "task_loss", *objective.names(self.configs[lane].losses)]
            values = dict(zip(names, losses[place].tolist(), strict=False))  # others may have more
            mine = scores[place] if scores is not None else None
            wrong = judging.not_finite(values, finite[place], mine)
            if wrong:
                self.progress[lane].fail(f"numeric: {wrong} at epoch {self.epoch}")
                continue
            value = loss = math.nan
            if self.judge is not None and mine is not None:
                values |= self.judge.values(mine)
                loss = values["validation_loss"]
                value = values[f"validation_{self.shared.stopping.metric}"]
            values["lr"] = self.configs[lane].optim.lr * last
            self.progress[lane].record(values)
            if self.progress[lane].judge(value, loss, self.shared.stopping):
                weights = self.lanes.flat[place], self.lanes.state[place]
                self.choice.keep(lane, self.progress[lane], weights)

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Give a copy of all that a checkpoint needs."""
        tensors = {
            "flat": self.lanes.flat.clone(),
            "state": self.lanes.state.clone(),
            "mean": self.optimiser.mean.clone(),
            "square": self.optimiser.square.clone(),
            "generators": torch.stack([each.get_state() for each in self.generators]),
        }
        chosen, kept = self.choice.snapshot()
        counters = {
            "identity": self.identity,
            "epoch": self.epoch,
            "steps": self.optimiser.steps,
            "slots": self.slots,
            "progress": [dataclasses.asdict(each) for each in self.progress],
        }
        return tensors | chosen, counters | kept

    def restore(self, tensors: dict[str, Tensor], counters: dict[str, Any]) -> None:
        """Go on from a snapshot, also of a larger pack; from the start, where that cannot be.

        Raises:
            ValueError: The snapshot is of other trials, data or another kind of device, or is not
                whole; the session is as new.
            OutOfMemoryError: The GPU has no room for it; the session is of no use.
        """
        found = lineage.lanes_of(counters.get("identity"), self.identity)
        if found is None:
            raise ValueError("it is of other trials, other data or another kind of device")
        try:
            widths = self.choice.flat.shape[1], self.choice.state.shape[1]
            tensors, counters = lineage.part(tensors, counters, found, widths=widths)
            self._restore({name: each.to(self.device) for name, each in tensors.items()}, counters)
        except torch.OutOfMemoryError:  # a RuntimeError that says nothing of the snapshot
            raise
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
            self._start()
            raise ValueError(f"it is not whole: {error!r}") from error

    def _restore(self, tensors: dict[str, Tensor], counters: dict[str, Any]) -> None:
        slots, chosen = counters["slots"], self.choice
        for name, like in (
            *((name, chosen.flat) for name in ("flat", "mean", "square")),
            ("state", chosen.state),
        ):
            require_shape(tensors, name, (len(slots), like.shape[1]))
        self.epoch = counters["epoch"]
        self.progress = [Progress(**each) for each in copy.deepcopy(counters["progress"])]
        chosen.restore(tensors, counters, self.progress)
        self.lanes.put(tensors["flat"], tensors["state"], [self.kinds[lane] for lane in slots])
        self.optimiser.optims = [self.configs[lane].optim for lane in slots]
        self.optimiser.put(self.lanes, tensors["mean"], tensors["square"], counters["steps"])
        self.generators = [torch.Generator(self.device) for _ in slots]
        for generator, state in zip(self.generators, tensors["generators"].cpu(), strict=True):
            generator.set_state(state.clone())
        self._occupy(slots)


def _identity(
    configs: Sequence[TrialConfig], fingerprint: str, device: torch.device
) -> lineage.Identity:
    """Name the trials, their data and the kind of device, so that no other checkpoint is taken."""
    return lineage.identity(
        [canonical(config) for config in configs], [RESULTS_VERSION, fingerprint, device.type]
    )
