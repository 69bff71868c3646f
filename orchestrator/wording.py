"""How the report calls what tables name by columns."""

from collections.abc import Sequence

LABELS = {
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "brier": "Brier score",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "concordance": "concordance (Harrell)",
    "uno_concordance": "concordance (Uno)",
    "hazard_ratio": "hazard ratio per SD",
    "icc_agreement": "ICC, agreement",
    "icc_consistency": "ICC, consistency",
    "rmsd": "RMSD of scores",
    "rank_rmsd": "RMSD of ranks",
    "cohen_kappa": "Cohen's kappa",
    "fleiss_kappa": "Fleiss' kappa",
    "p_adjusted": "adjusted p",
    "p": "p",
    "gpu_hours": "GPU-hours",
}


def label_of(column: str) -> str:
    """Name a column for people."""
    text = column
    end = ""
    for suffix, word in (("_difference", " (difference)"), ("_sd", " (SD over folds)")):
        if text.endswith(suffix):
            text, end = text.removesuffix(suffix), word
    for start, word in (
        ("worst_scanner_", ", worst scanner"),
        ("unseen_scanner_", ", unseen scanner"),
    ):
        if text.startswith(start):
            text, end = text.removeprefix(start), word + end
    return LABELS.get(text, text.removeprefix("losses.").replace("_", " ")) + end


def number(value: float, *, digits: int = 3) -> str:
    """Write a number for people; a dash where there is none."""
    if value != value:
        return "–"
    if value in (float("inf"), float("-inf")):
        return "∞" if value > 0 else "−∞"
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace("-", "−")
    return f"{value:.{digits}f}".replace("-", "−")


def signed(value: float, *, digits: int = 3) -> str:
    """Write a difference with its sign."""
    text = number(value, digits=digits)
    return text if text[0] in "−–∞" else f"+{text}"


def chance(p: float) -> str:
    """Write a p value."""
    return "–" if p != p else "< 0.001" if p < 0.001 else f"{p:.3f}"


def short(text: str, most: int) -> str:
    """Cut a name that is too long for its place."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def joined(names: Sequence[str], *, most: int = 6) -> str:
    """List names in a sentence; what is beyond `most` is counted."""
    if len(names) > most:
        return f"{', '.join(names[: most - 1])} and {len(names) - most + 1:,} more"
    return ", ".join(names[:-1]) + (" and " if len(names) > 1 else "") + "".join(names[-1:])


def counted(number: int, noun: str) -> str:
    """Write a count with its noun."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
