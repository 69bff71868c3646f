"""What pair losses compare, as configuration, part of `training.config`."""

from collections.abc import Iterable, Sequence
from typing import Literal

from training.config_losses import Loss, PairLoss, ScoreLoss, compares_pairs

Pairs = Literal["scans", "shuffled", "same_scan", "augmented"]


def problems(pairs: Pairs, losses: Sequence[Loss], *, pairs_per_batch: int) -> Iterable[str]:
    """Say why these losses cannot compare such pairs.

    Shuffled pairs leave out the patients of both sides of a pair as negatives, so that a
    contrastive loss needs a third pair to have any.
    """
    between = [loss for loss in losses if isinstance(loss, PairLoss)]
    if pairs == "shuffled":
        if not between:
            yield "pairs: shuffled changes nothing without a loss between scans"
        for loss in between:
            least = 3 if loss.kind in ("infonce", "scangen") and compares_pairs(loss) else 2
            if pairs_per_batch < least:
                yield (
                    f"{loss.kind} with pairs: shuffled needs sampling.pairs_per_batch of at least "
                    f"{least}"
                )
    if pairs == "same_scan":
        for loss in between:
            if getattr(loss, "level", "bag") == "tile" or (
                isinstance(loss, ScoreLoss) and loss.form == "attention"
            ):
                named = "form attention" if isinstance(loss, ScoreLoss) else "level tile"
                yield (
                    f"{loss.kind} of {named} compares tiles of the same tissue place, which two "
                    "draws of one scan's tiles do not share: not with pairs: same_scan"
                )
