"""All that a report is made from, read once; the figures and sentences follow from it alone."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from orchestrator import (
    aggregate,
    events,
    evidence,
    files,
    inputs,
    spec,
    store,
    tables,
    tradeoff,
)
from orchestrator.aggregate import Joined
from orchestrator.errors import StoreError
from orchestrator.events import Event, Progress
from orchestrator.evidence import Evidence, Request, Results
from orchestrator.folder import Folder
from orchestrator.spec_model import Spec

METRICS = (
    "auroc", "concordance", "accuracy", "balanced_accuracy", "brier", "inconsistency", "flip_rate",
    "worst_scanner_auroc", "unseen_scanner_auroc", "worst_scanner_concordance",
    "unseen_scanner_concordance",
)  # fmt: skip
"""Metrics that get intervals, where the sweep has them: of both families."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What a report is made from.

    Attributes:
        folder: the sweep.
        spec: as launched; None where it cannot be read any more.
        text: of the stored spec.
        results: plan, trials, predictions.
        curves: of training.
        axes: columns of the plan that tell cells apart.
        joined: plan and results.
        robustness: its table; None where no trial has two scanners.
        scanners: likewise.
        tradeoff: `tradeoff.table`.
        reference: the arm that the others are compared with; empty for none.
        control: the arm that has the same scans as the losses and no loss; empty for none.
        quality: metric that robustness is set against; empty where there is none.
        draws: of patients, for intervals.
        cells: evidence of every cell against the reference.
        against_control: evidence against the control; None without one.
        chosen: evidence of settings chosen on validation patients; None without a rule.
        representation: what `sweep aggregate --representation` wrote; None where it did not.
        settings: configuration of the first trial of each arm.
        told: all events.
        state: what they fold to.
        code: commit and versions at the last launch.
        data: folder of the data.
    """

    folder: Folder
    spec: Spec | None
    text: str
    results: Results
    curves: pd.DataFrame
    axes: tuple[str, ...]
    joined: Joined
    robustness: pd.DataFrame | None
    scanners: pd.DataFrame | None
    tradeoff: pd.DataFrame
    reference: str
    control: str
    quality: str
    draws: int
    cells: Evidence
    against_control: Evidence | None
    chosen: Evidence | None
    representation: pd.DataFrame | None
    settings: Mapping[str, Mapping[str, Any]]
    told: Sequence[Event]
    state: Progress
    code: Mapping[str, Any]
    data: Path | None

    @property
    def plan(self) -> pd.DataFrame:
        """A row per cell and trial."""
        return self.results.plan

    @property
    def losses(self) -> dict[str, tuple[str, ...]]:
        """Kinds of the robustness losses of each arm."""
        return {arm: _losses(own) for arm, own in self.settings.items()}


def read(
    folder: Folder, *, draws: int, allow_missing: bool, results: Results | None = None
) -> Material:
    """Read a sweep and ask it for evidence.

    Args:
        folder: the sweep.
        draws: of patients, for intervals.
        allow_missing: average what there is in cells that are not whole.
        results: of the sweep, where they have been read.

    Raises:
        SweepError: There is no sweep, or its spec cannot be read.
        StoreError: A segment cannot be read, or the results are damaged.
    """
    folder.require()
    results = evidence.read(folder) if results is None else results
    curves = store.read_results(folder, ["curves"])["curves"]
    plan, axes = results.plan, aggregate.axes(results.plan)
    joined = aggregate.join(
        plan, results.trials, results.predictions, axes=axes, allow_missing=allow_missing
    )
    reference = evidence.reference(results)
    made = tables.by_name(joined, reference=reference)
    main, traded = made["main"], made["tradeoff"]
    settings = _settings(plan)
    metrics = tuple(name for name in METRICS if name in main and main[name].notna().any())
    request = Request(metrics=metrics, draws=draws, allow_missing=allow_missing)
    cells = evidence.of(results, request, joined=joined)
    quality, control = tradeoff.quality(traded), _control(settings, reference)
    both = tuple(name for name in (quality, "inconsistency") if name in metrics)
    told = events.read_events(folder)
    whole, data = _spec(folder)
    return Material(
        folder=folder,
        spec=whole,
        text=folder.spec.read_text("utf-8", "replace") if folder.spec.is_file() else "",
        results=results,
        curves=curves,
        axes=tuple(axes),
        joined=joined,
        robustness=made.get("robustness"),
        scanners=made.get("scanners"),
        tradeoff=traded,
        reference=reference,
        control=control,
        quality=quality,
        draws=draws,
        cells=cells,
        against_control=_of(results, joined, request, metrics=both, against=control)
        if control
        else None,
        chosen=_of(results, joined, request, select=results.select) if results.select else None,
        representation=_representation(folder),
        settings=settings,
        told=told,
        state=events.fold(told, events.list_segments(folder)),
        code=_code(folder),
        data=data,
    )


def _of(results: Results, joined: Joined, request: Request, **changed: Any) -> Evidence:
    return evidence.of(results, replace(request, **changed), joined=joined)


def _settings(plan: pd.DataFrame) -> dict[str, dict[str, Any]]:
    rows = plan.sort_values("cell").drop_duplicates("arm")
    return {
        str(arm): json.loads(config)
        for arm, config in zip(rows["arm"], rows["config"], strict=True)
    }


def _control(settings: Mapping[str, Mapping[str, Any]], reference: str) -> str:
    """Name the first arm with all scans and no loss; empty where no arm with losses has those."""
    others = [arm for arm, own in settings.items() if arm != reference and own["views"] == "all"]
    plain = [arm for arm in others if not settings[arm].get("losses")]
    return plain[0] if plain and len(others) > len(plain) else ""


def _losses(config: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(loss.get("kind", "")) for loss in config.get("losses", ()))


def _spec(folder: Folder) -> tuple[Spec | None, Path | None]:
    if not folder.spec.is_file():
        return None, None
    whole = spec.read(folder.spec)
    return whole, inputs.path(whole, folder.root.parent)


def _representation(folder: Folder) -> pd.DataFrame | None:
    path = folder.tables / "representation.parquet"
    return files.read_frame(path) if path.is_file() else None


def _code(folder: Folder) -> dict[str, Any]:
    if not folder.code.is_file():
        return {}
    try:
        read: dict[str, Any] = json.loads(folder.code.read_text())
    except ValueError as error:
        raise StoreError(f"{folder.code}: is no JSON: {error}") from error
    return read
