"""What the validation patients say of an epoch: the values that the rules of `Stopping` read."""

import math
from dataclasses import dataclass

import numpy as np

from training import evaluation
from training.config import Stopping
from training.data.paired import is_paired
from training.data.sampling import Rows
from training.data.scans import Scans
from training.errors import DataError
from training.evaluation import Scored, Validation
from training.metrics.robustness import grouped_inconsistency


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """Values of an epoch.

    Attributes:
        validation: how the scores are judged against the labels.
        paired: how those of a slide are compared; None where no rule reads that.
    """

    validation: Validation
    paired: "PairedSlides | None"

    def values(self, scores: Scored) -> dict[str, float]:
        """Give the values of a lane's scores, under the names of their curves.

        Args:
            scores: of the validation scans, in their order.
        """
        values = {"validation_loss": self.validation.loss(scores)}
        for name, value in self.validation.values(scores).items():
            values[f"validation_{name}"] = value
        if self.paired is not None:
            told = scores if self.validation.outcomes is None else evaluation.risks(scores)
            values["validation_inconsistency"] = self.paired.inconsistency(told)
        return values


def judge(scans: Scans, stopping: Stopping) -> Judge | None:
    """Prepare to judge epochs; None without validation.

    Raises:
        DataError: There is nothing to judge by.
    """
    validation = evaluation.validation(scans)
    if validation is None:
        if stopping.validation_share > 0:
            raise DataError("no scan of a validation patient is on a seen scanner")
        return None
    return Judge(
        validation=validation, paired=paired_slides(scans) if stopping.compares_scanners else None
    )


def not_finite(values: dict[str, float], weights: bool, scores: Scored | None) -> str:
    """Name the first quantity of an epoch that is NaN or infinite; empty if none is."""
    for name, value in values.items():
        if not math.isfinite(value):
            return f"{name} is {value}"
    if not weights:
        return "weights are not finite"
    if scores is not None and not np.isfinite(scores).all():
        return "validation scores are not finite"
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedSlides:
    """Validation slides with scans on several seen scanners.

    An image is a slide on a scanner; its score is the mean over the slide's scans there.

    Attributes:
        places: their scans, as positions among the validation scans.
        image: number of the image of each of these scans.
        slide: number of the slide of each image.
    """

    places: Rows
    image: Rows
    slide: Rows

    def inconsistency(self, scores: Scored) -> float:
        """Compute the inconsistency of the numeric contract (`training.metrics.robustness`).

        With several classes the mean over class logits, centred over classes; NaN where all slides
        have one mean score.

        Args:
            scores: of all validation scans, in their order.
        """
        mine = scores[self.places].astype(np.float64)
        if mine.shape[1] > 1:
            mine = mine - mine.mean(1, keepdims=True)
        counts, one = np.bincount(self.image), np.zeros(len(self.slide), dtype=np.int64)
        each = [
            grouped_inconsistency(
                np.bincount(self.image, weights=column) / counts, self.slide, one, 1
            )[0]
            for column in mine.T
        ]
        return float(np.mean(each))


def paired_slides(scans: Scans) -> PairedSlides:
    """Find the validation slides with scans on several seen scanners; empty names do not count."""
    rows = scans.of("validation", seen_only=True)
    table = scans.table.iloc[rows]
    places = np.flatnonzero(is_paired(table))
    slides = np.unique(table["slide"].to_numpy()[places].astype(str), return_inverse=True)[1]
    images = np.stack([slides, scans.scanner[rows][places]], axis=1)
    found, image = np.unique(images, axis=0, return_inverse=True)
    return PairedSlides(places=places, image=image.ravel(), slide=found[:, 0])
