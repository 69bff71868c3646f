"""Scores of whole bags, what validation says about them, and the table of predictions."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from training.data.loading import Loader
from training.data.sampling import Rows
from training.data.scans import Scans
from training.lanes import Lanes
from training.losses.task import task_loss
from training.metrics.accuracy import best_threshold, grouped_auroc, grouped_multiclass_auroc

_CHUNK_INSTANCES = 8192
"""Padded instances in memory per lane; a bag with more comes alone. The same for any number of
lanes: other chunks could give other bits."""

Scored = npt.NDArray[np.floating]
"""Scores of one lane, [scan, class]."""


@torch.no_grad()
def score(lanes: Lanes, loader: Loader, rows: Rows, num_tiles: Rows) -> npt.NDArray[np.floating]:
    """Score whole bags in evaluation mode, [lane, scan, class].

    Args:
        lanes: the models.
        loader: reads bags.
        rows: scans to score.
        num_tiles: tiles of every scan of the loader.
    """
    found: npt.NDArray[np.floating] | None = None
    for places in _chunks(num_tiles[rows]):
        bags, mask = loader.whole(rows[places])
        each: list[Tensor] = []
        for group in lanes.groups:
            none = group.share(bags.new_empty(0))
            inputs = group.share(bags), group.share(mask), (), none, none
            each += lanes.call(group, *inputs, shared=(None,), train=False)
        part = torch.cat(each).cpu().numpy()
        if found is None:
            found = np.empty((len(lanes), len(rows), part.shape[-1]), part.dtype)
        found[:, places] = part
    assert found is not None, "scored without scans"
    return found


def _chunks(sizes: Rows) -> Iterator[Rows]:
    """Group bags of similar size, within the bound on padded instances."""
    order = np.argsort(sizes, kind="stable")
    chunk: list[int] = []
    for place in order.tolist():
        if chunk and (len(chunk) + 1) * sizes[place] > _CHUNK_INSTANCES:
            yield np.array(chunk)
            chunk = []
        chunk.append(place)
    if chunk:
        yield np.array(chunk)


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """How the scores of validation scans are judged.

    A case is a patient on a scanner; its score is the mean over the patient's scans there.

    Attributes:
        rows: the scans, on seen scanners.
        label: class number of each scan.
        weight: of each scan in the loss; those of a slide sum to one.
        case: number of the case of each scan.
        case_label: class number of each case.
        case_scanner: scanner of each case, numbered from 0; -1 where it is not known although that
            of other cases is: then the case is none of any scanner's.
    """

    rows: Rows
    label: Rows
    weight: npt.NDArray[np.float64]
    case: Rows
    case_label: Rows
    case_scanner: Rows

    def loss(self, scores: Scored) -> float:
        """Compute the task loss, each slide counting once."""
        return float(
            task_loss(
                torch.from_numpy(scores.astype(np.float64)),
                torch.from_numpy(self.label),
                torch.from_numpy(self.weight),
            )
        )

    def auroc(self, scores: Scored) -> float:
        """Average the AUROC over scanners; NaN where no scanner has all classes."""
        on = self.case_scanner >= 0
        cases, label, scanner = self._cases(scores)[on], self.case_label[on], self.case_scanner[on]
        groups = int(scanner.max()) + 1
        if cases.shape[1] == 1:
            each = grouped_auroc(label, cases[:, 0], scanner, groups)
        else:
            each = grouped_multiclass_auroc(label, cases, scanner, groups)
        defined = each[~np.isnan(each)]
        return float(defined.mean()) if len(defined) else float("nan")

    def threshold(self, scores: Scored, rule: str) -> float:
        """Find the threshold on the logit, see `Stopping.threshold`; 0 for several classes."""
        if rule == "half" or scores.shape[1] > 1:
            return 0.0
        return best_threshold(self.case_label, self._cases(scores)[:, 0])

    def _cases(self, scores: Scored) -> npt.NDArray[np.float64]:
        counts = np.bincount(self.case)
        sums = [np.bincount(self.case, weights=column) for column in scores.T]
        return np.stack([total / counts for total in sums], axis=1)


def validation(scans: Scans) -> Validation | None:
    """Prepare to judge the validation scans; None where there are none."""
    rows = scans.of("validation", seen_only=True)
    if not len(rows):
        return None
    _, slide, scans_of = np.unique(
        scans.table["slide"].to_numpy()[rows].astype(str), return_inverse=True, return_counts=True
    )
    cases = np.stack([scans.patient[rows], scans.scanner[rows]], axis=1)
    _, first, case = np.unique(cases, axis=0, return_index=True, return_inverse=True)
    names = scans.table["scanner"].to_numpy()[rows][first].astype(str)
    numbers = np.unique(names, return_inverse=True)[1]
    if "" in names and len(set(names)) > 1:  # the empty name sorts first
        numbers = numbers - 1
    return Validation(
        rows=rows,
        label=scans.label[rows],
        weight=1.0 / scans_of[slide],
        case=case.ravel(),
        case_label=scans.label[rows][first],
        case_scanner=numbers,
    )


def mean_over_scans(scans: Scans, rows: Rows, scores: Scored) -> Scored:
    """Give every scan the mean score of its slide's scans among the rows, see `test_time`.

    The scans of a slide are those that are evaluated: on seen and unseen scanners for a held-out
    patient, on seen ones for a validation patient. So the score of a slide is the same on every
    scanner, to the bit, unseen ones included.

    Args:
        scans: of the fold.
        rows: of the scores.
        scores: of one lane.
    """
    names = scans.table["slide"].to_numpy()[rows].astype(str)
    slide, counts = np.unique(names, return_inverse=True, return_counts=True)[1:]
    sums = [np.bincount(slide, weights=column) for column in scores.T]
    means = np.stack([total / counts for total in sums], axis=1)
    return means[slide].astype(scores.dtype)


def predictions(scans: Scans, rows: Rows, scores: Scored) -> pd.DataFrame:
    """Tabulate the scores of a lane as they are, one row per scan; several classes make a list."""
    table = scans.table.iloc[rows]
    columns = ["patient", "slide", "view", "scanner", "cohort", "part"]
    frame = table[columns].reset_index(drop=True)
    frame["held_out"] = (frame["part"] == "test").to_numpy()
    frame["label"] = scans.label[rows].astype(np.int32)
    frame["score"] = scores[:, 0] if scores.shape[1] == 1 else list(scores)
    return frame
