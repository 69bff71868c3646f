"""Scores of whole bags, what validation says about them, and the table of predictions."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from training.data.loading import Loader
from training.data.sampling import Rows
from training.data.scans import Scans
from training.data.survival import ScanOutcomes, of_bags
from training.lanes import Lanes
from training.losses.survival import interval_risk, mean_loss
from training.losses.task import task_loss
from training.metrics.accuracy import best_threshold, grouped_auroc, grouped_multiclass_auroc
from training.metrics.concordance import grouped_concordance, inverse_weights

CHUNK_INSTANCES = 8192
"""Padded instances in memory per lane; a bag with more comes alone. The same for any number of
lanes: other chunks could give other bits."""

Scored = npt.NDArray[np.floating]
"""Scores of one lane, [scan, class]."""


Observe = Callable[[Rows, Tensor, Tensor], None]
"""Is shown the places of some scans among the rows, their bag embeddings [lane, scan, embedding]
and their attention [lane, scan, instance]."""


@torch.no_grad()
def score(
    lanes: Lanes,
    loader: Loader,
    rows: Rows,
    num_tiles: Rows,
    *,
    observe: Observe | None = None,
) -> npt.NDArray[np.floating]:
    """Score whole bags in evaluation mode, [lane, scan, class].

    Args:
        lanes: the models.
        loader: reads bags.
        rows: scans to score.
        num_tiles: tiles of every scan of the loader.
        observe: called as the scans come by; changes no bit of the scores.
    """
    found: npt.NDArray[np.floating] | None = None
    for places in chunks(num_tiles[rows]):
        bags, mask = loader.whole(rows[places])
        each: list[tuple[Tensor, ...]] = []
        for group in lanes.groups:
            none = group.share(bags.new_empty(0))
            inputs = group.share(bags), group.share(mask), (), none, none
            shared = (None, observe is not None)
            each.append(lanes.call(group, *inputs, shared=shared, train=False))
        scores, *rest = (torch.cat(parts) for parts in zip(*each, strict=True))
        if observe is not None:
            observe(places, *rest)
        part = scores.cpu().numpy()
        if found is None:
            found = np.empty((len(lanes), len(rows), part.shape[-1]), part.dtype)
        found[:, places] = part
    assert found is not None, "scored without scans"
    return found


def chunks(sizes: Rows) -> Iterator[Rows]:
    """Group bags of similar size, within the bound on padded instances."""
    order = np.argsort(sizes, kind="stable")
    chunk: list[int] = []
    for place in order.tolist():
        if chunk and (len(chunk) + 1) * sizes[place] > CHUNK_INSTANCES:
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
        outcomes: of all scans of the fold, for a survival task; None for classes.
        first: a scan of each case.
    """

    rows: Rows
    label: Rows
    weight: npt.NDArray[np.float64]
    case: Rows
    case_label: Rows
    case_scanner: Rows
    outcomes: ScanOutcomes | None = None
    first: Rows | None = None

    def values(self, scores: Scored) -> dict[str, float]:
        """Compute the validation values beside the loss, by name."""
        if self.outcomes is None:
            return {"auroc": self.auroc(scores)}
        return {"concordance": self.concordance(scores)}

    def loss(self, scores: Scored) -> float:
        """Compute the task loss, each slide counting once; of a survival task each patient."""
        if self.outcomes is not None:
            wide, put = torch.from_numpy(scores.astype(np.float64)), torch.from_numpy
            bags = of_bags(self.outcomes, self.rows, self.weight, put=put)
            return float(mean_loss(wide, bags, self.outcomes.settings))
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

    def concordance(self, scores: Scored) -> float:
        """Average Harrell's concordance over scanners; NaN where no scanner has a pair of cases."""
        assert self.outcomes is not None and self.first is not None, "of a survival task"
        on = self.case_scanner >= 0
        rows, scanner = self.first[on], self.case_scanner[on]
        time, event = self.outcomes.time[rows], self.outcomes.event[rows]
        risk = self._cases(risks(scores))[on, 0]
        each = grouped_concordance(time, event, risk, scanner, int(scanner.max()) + 1)[0]
        defined = each[~np.isnan(each)]
        return float(defined.mean()) if len(defined) else float("nan")

    def threshold(self, scores: Scored, rule: str) -> float:
        """Find the threshold on the logit, see `Stopping.threshold`; 0 but for a binary task."""
        if rule == "half" or scores.shape[1] > 1 or self.outcomes is not None:
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
        outcomes=scans.outcomes,
        first=rows[first],
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


def risks(scores: Scored) -> Scored:
    """Give the risk of a survival task, [scan, 1]: the log-risk, or that of logits of intervals."""
    if scores.shape[1] == 1:
        return scores
    found: Scored = interval_risk(torch.from_numpy(scores)).numpy()
    return found


def predictions(scans: Scans, rows: Rows, scores: Scored) -> pd.DataFrame:
    """Tabulate the scores of a lane as they are, one row per scan; several classes make a list.

    A survival task has the risk as its score, and the columns `time`, `event` and `uno_weight`: 1 /
    G(t)^2 for an event before the last one of the training patients, on whom G, the chance of not
    being censored, is estimated; else 0 (`training.metrics.concordance.uno`).
    """
    table = scans.table.iloc[rows]
    columns = ["patient", "slide", "view", "scanner", "cohort", "part"]
    frame = table[columns].reset_index(drop=True)
    frame["held_out"] = (frame["part"] == "test").to_numpy()
    frame["label"] = scans.label[rows].astype(np.int32)
    if scans.outcomes is not None:
        frame = frame.assign(**_told(scans.outcomes, rows))
        scores = risks(scores)
    frame["score"] = scores[:, 0] if scores.shape[1] == 1 else list(scores)
    return frame


def _told(outcomes: ScanOutcomes, rows: Rows) -> dict[str, np.ndarray]:
    """Tell time, event and Uno's weight of scans."""
    time, event, train = outcomes.time[rows], outcomes.event[rows], outcomes.train
    known = outcomes.time[train], outcomes.event[train]
    horizon = float(known[0][known[1]].max())
    weight = inverse_weights(time, event, horizon=horizon, censoring=known)
    return {"time": time, "event": event.astype(np.int32), "uno_weight": weight}
