"""Trials minus what is done gives packs; pure.

A pack holds trials of one family (`training.config.lane_key`) that read the same data, so its lanes
share one pass over the bags. No table library is imported here before a frame is asked for.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from orchestrator import identification, price, trial
from orchestrator.spec import Row
from orchestrator.trial import Trial
from training.config import lane_key
from training.config_lanes import in_common, loss_key

if TYPE_CHECKING:
    import pandas as pd

    from training.data.folds import Split
    from training.data.index import Dataset


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """Trials trained by one worker in one go, as lanes."""

    id: str
    trials: tuple[Trial, ...]
    encoder: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a spec comes to, given the data and what is done."""

    rows: tuple[Row, ...]
    row_trials: tuple[Trial, ...]
    """The trial of each row; rows of cells with equal configurations share one."""
    trials: tuple[Trial, ...]
    """Every trial once, in the order of the rows."""
    done: frozenset[str]
    failed: frozenset[str]
    """Trials that are neither done nor trained again."""
    elsewhere: frozenset[str]
    """Trials in packs of a driver that runs."""
    packs: tuple[Pack, ...]
    missing: dict[str, int]
    """Encoders without embeddings, with their number of trials."""
    splits: "Mapping[tuple[str, int, str], Split]" = field(default_factory=dict)
    """Who is in which part, by encoder, fold and fingerprint."""
    brackets: Mapping[str, str] = field(default_factory=dict)
    """By trial, the bracket of a search in which it may be retired; empty where a cell needs it
    whole."""

    @property
    def trial_ids(self) -> list[str]:
        """The ids of all trials, each once."""
        return [item.id for item in self.trials]

    @property
    def num_cells(self) -> int:
        """How many rows the table of results will have."""
        return self.rows[-1].cell + 1 if self.rows else 0

    @property
    def num_to_train(self) -> int:
        """How many trials are in packs."""
        return sum(len(item.trials) for item in self.packs)

    @property
    def shared(self) -> int:
        """How many rows use a trial that an earlier row has already."""
        return len(self.rows) - len(self.trials)

    def apart(self) -> tuple[list[int], list[str]]:
        """Say which trials to train share no pass: sizes of the groups, and fields they differ in.

        Empty fields where there is one group.
        """
        sizes: dict[tuple[str, str], int] = {}
        shared: dict[str, set[str]] = {}
        for one in self.packs:
            config = one.trials[0].config
            group = (lane_key(config), one.trials[0].fingerprint)
            if group not in sizes:
                for name, text in in_common(config):
                    shared.setdefault(name, set()).add(text)
            sizes[group] = sizes.get(group, 0) + len(one.trials)
        return list(sizes.values()), [name for name, texts in shared.items() if len(texts) > 1]

    def kind(self, pack: Pack) -> str:
        """Name what packs that cost the same have in common."""
        retires = any(self.brackets.get(item.id) for item in pack.trials)
        losses = {loss_key(item.config) for item in pack.trials}
        return price.kind(pack.trials[0].config, losses, retires=retires)

    def frame(self) -> "pd.DataFrame":
        """Write the plan as a table, one row per cell, fold and seed; axes are JSON or empty."""
        import pandas as pd

        configs = {item.id: item.config.model_dump_json() for item in self.trials}
        families = dict(zip((t.id for t in self.trials), _families(self.trials), strict=True))
        axes = self.rows[0].axes if self.rows else {}
        urgency = _urgency(self.rows, self.row_trials)
        columns: dict[str, list[int] | list[str]] = {
            "cell": [row.cell for row in self.rows],
            "trial": [item.id for item in self.row_trials],
            "encoder": [row.encoder for row in self.rows],
            "arm": [row.arm for row in self.rows],
            **{key: [_json(row.axes[key]) for row in self.rows] for key in axes},
            "fold": [row.fold for row in self.rows],
            "seed": [row.seed for row in self.rows],
            "config": [configs[item.id] for item in self.row_trials],
            "fingerprint": [item.fingerprint for item in self.row_trials],
            "priority": [urgency[item.id] for item in self.row_trials],
            "pack_family": [families[item.id] for item in self.row_trials],
        }
        if any(row.searched for row in self.rows):
            columns["search"] = [row.search for row in self.rows]
            columns["bracket"] = [self.brackets[item.id] for item in self.row_trials]
        return pd.DataFrame(columns)


def make(
    rows: Sequence[Row],
    *,
    dataset: "Dataset | None",
    done: Collection[str] = (),
    failed: Collection[str] = (),
    elsewhere: Collection[str] = (),
    retired: Mapping[str, str] | None = None,
    begun: Mapping[str, Sequence[str]] | None = None,
    lanes_max: int,
    packs_min: int = 1,
) -> Plan:
    """Name the trials, subtract what is done, and pack the rest, arms of high priority first.

    Trials whose embeddings are missing are planned and packed too, without a fingerprint; they get
    their final ids when the data are there.

    Args:
        rows: the expanded spec.
        dataset: None where there are no data yet.
        done: ids of trials with an accepted result; others may be among them.
        failed: ids of trials not to be trained again.
        elsewhere: ids of trials in packs of a driver that runs.
        retired: trial to the text of the bracket in which a search ended it early; it is done only
            for a search with this bracket, not for one of other rungs.
        begun: pack id to trial ids of packs of an earlier plan: those that can still train as they
            are stay, first among the packs of their priority.
        lanes_max: most trials of a pack.
        packs_min: make smaller packs, down to two lanes, until there are this many.

    Raises:
        DataError: the data do not allow the folds, or a split leaks.
    """
    row_trials, missing, splits = identification.trials(rows, dataset)
    unique = {item.id: item for item in row_trials}
    urgency = _urgency(rows, row_trials)
    brackets = _brackets(rows, row_trials)
    done = frozenset(done) - {t for t, text in (retired or {}).items() if brackets.get(t) != text}
    out = {*done, *failed, *elsewhere}
    to_train = [item for item in unique.values() if item.id not in out]
    to_train = _in_order(to_train, urgency)
    kept = _kept(begun or {}, to_train, lanes_max=lanes_max)
    taken = {item.id for one in kept for item in one.trials}
    rest = [item for item in to_train if item.id not in taken]
    few = packs_min - len(kept)
    packs = [*kept, *pack(rest, lanes_max=lanes_max, packs_min=few, urgency=urgency)]
    if kept:
        packs.sort(key=lambda one: -max(urgency[item.id] for item in one.trials))
    return Plan(
        rows=tuple(rows),
        row_trials=tuple(row_trials),
        trials=tuple(unique.values()),
        done=done & unique.keys(),
        failed=frozenset(failed) & unique.keys() - done,
        elsewhere=frozenset(elsewhere) & unique.keys() - done,
        packs=tuple(packs),
        missing=missing,
        splits=splits,
        brackets=brackets,
    )


def probe(plan: Plan, known: Collection[str]) -> Plan:
    """Keep one pack, the first, of each kind of pack whose price is not known.

    Args:
        plan: packs of all kinds.
        known: kinds of packs that trained before.
    """
    first: dict[str, Pack] = {}
    for item in plan.packs:
        first.setdefault(plan.kind(item), item)
    packs = tuple(item for name, item in first.items() if name not in known)
    return replace(plan, packs=packs)


def pack(
    trials: Sequence[Trial], *, lanes_max: int, packs_min: int = 1,
    urgency: Mapping[str, int] = MappingProxyType({}),
) -> list[Pack]:  # fmt: skip
    """Group trials that can train as lanes of one pass over the same bags, equally urgent ones.

    Trials keep their order, so two equal calls give equal packs; packs of a family differ by at
    most one trial. A pack of one costs as much as one of two (the trainer adds a companion), so
    `packs_min` does not make packs of one out of larger ones.
    """
    if lanes_max < 1:
        raise ValueError(f"lanes_max is {lanes_max}; expected at least 1")
    families: dict[tuple[str, str, int], list[Trial]] = {}
    for item, family in zip(trials, _families(trials), strict=True):
        key = family, item.fingerprint, urgency.get(item.id, 0)
        families.setdefault(key, []).append(item)
    sizes = [len(members) for members in families.values()]
    lanes = min(lanes_max, max(sizes, default=1))
    while lanes > 2 and sum(-(-size // lanes) for size in sizes) < packs_min:
        lanes -= 1
    return [
        _pack(part) for members in families.values() for part in _balanced(members, limit=lanes)
    ]


def _kept(
    begun: Mapping[str, Sequence[str]], to_train: Sequence[Trial], *, lanes_max: int
) -> list[Pack]:
    """Choose the begun packs whose trials are all to be trained, and still lanes of one pass."""
    free = {item.id: item for item in to_train}
    packs = []
    for name, ids in begun.items():
        trials = tuple(free[one] for one in dict.fromkeys(ids) if one in free)
        if not trials or len(trials) < len(ids) or len(ids) > lanes_max:
            continue
        if len({*zip(_families(trials), (item.fingerprint for item in trials), strict=True)}) > 1:
            continue
        packs.append(Pack(id=name, trials=trials, encoder=trials[0].config.encoder))
        for one in ids:
            del free[one]
    return packs


def _in_order(trials: Sequence[Trial], urgency: Mapping[str, int]) -> list[Trial]:
    """Put urgent trials first, and among equally urgent ones those with the same losses together.

    The losses of neighbours in a pack are computed in one call.
    """
    losses = [loss_key(item.config) for item in trials]
    place = {loss: number for number, loss in enumerate(dict.fromkeys(losses))}
    order = sorted(
        (-urgency[item.id], place[loss], number)
        for number, (item, loss) in enumerate(zip(trials, losses, strict=True))
    )
    return [trials[number] for *_, number in order]


def _urgency(rows: Sequence[Row], trials: Sequence[Trial]) -> dict[str, int]:
    """Return the highest priority of the rows of each trial."""
    urgency: dict[str, int] = {}
    for row, item in zip(rows, trials, strict=True):
        urgency[item.id] = max(row.priority, urgency.get(item.id, row.priority))
    return urgency


def _brackets(rows: Sequence[Row], trials: Sequence[Trial]) -> dict[str, str]:
    found: dict[str, str] = {}
    for row, item in zip(rows, trials, strict=True):
        found[item.id] = row.bracket if found.get(item.id, row.bracket) else ""
    return found


def _pack(trials: tuple[Trial, ...]) -> Pack:
    name = trial.hash_of(" ".join(item.id for item in trials))
    return Pack(id=name, trials=trials, encoder=trials[0].config.encoder)


def _balanced(members: Sequence[Trial], *, limit: int) -> Iterable[tuple[Trial, ...]]:
    number = -(-len(members) // limit)
    edges = [len(members) * position // number for position in range(number + 1)]
    for position in range(number):
        yield tuple(members[edges[position] : edges[position + 1]])


def _families(trials: Sequence[Trial]) -> list[str]:
    """Return the lane key of each trial."""
    return [lane_key(item.config) for item in trials]


def _json(value: object) -> str:
    return "" if value is None else json.dumps(value)
