"""The section on science for results/README.md: what was computed, map, tables, nulls, in words.

Everything here follows from the cohorts' files; nothing is written by hand.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from tests.science import nulls, statistics, summary
from tests.science.settings import (
    ARMS,
    INITIALISATIONS,
    MARGIN,
    PRIMARY,
    PRIMARY_ARM,
    PRIMARY_WORLD,
    REFERENCE,
    WORLDS,
)
from tests.science.statistics import Estimate
from tests.science.summary import VERDICTS, Cohorts, Verdict
from tests.science.wording import difference, listed, plain, ratio, scale, table
from tests.science.work import Stored

BEGIN, END = "<!-- science: begin -->", "<!-- science: end -->"
SHOWN = (
    ("auroc", "AUROC"),
    ("worst_scanner_auroc", "worst scanner"),
    ("unseen_scanner_auroc", "unseen scanner"),
    ("flip_rate", "flip rate"),
    ("inconsistency", "inconsistency"),
    ("seen_inconsistency", "on seen scanners"),
    ("oracle_distance", "oracle distance"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where the numbers come from.

    Args:
        command: that made them.
        settings: how they were frozen, in words.
        workers: processes of the last call.
        tuning: the table of tried settings, as markdown.
    """

    command: str
    settings: str
    workers: int
    tuning: str


def markdown(found: Sequence[Stored], origin: Origin) -> str:
    """Write the section, markers included."""
    cohorts = Cohorts(found)
    judged = summary.verdicts(cohorts)
    parts = [
        BEGIN,
        "## Science",
        _what(found, origin),
        _primary(judged),
        _words(cohorts, judged),
        "### Nulls",
        _nulls(cohorts),
        "### Map",
        _map(judged),
        "### Numbers by world",
        _numbers(judged),
        "### The base world",
        _base(cohorts),
        "### Settings that were tried",
        origin.tuning,
        END,
    ]
    return "\n\n".join(parts) + "\n"


def put(section: str, page: Path, *, begin: str = BEGIN, end: str = END) -> None:
    """Replace the section of a page between its markers, or add it at the end."""
    text = page.read_text() if page.exists() else ""
    if begin in text:
        before, _, rest = text.partition(begin)
        _, found, after = rest.partition(f"{end}\n")
        if not found:
            raise ValueError(f"{page} has {begin!r} without {end!r}")
        text = before + section + after
    else:
        text = text.rstrip("\n") + "\n\n" + section if text else section
    temporary = page.with_name(f".{page.name}")
    temporary.write_text(text)
    temporary.replace(page)


def wall_minutes(found: Sequence[Stored]) -> float:
    """Add up the time in which at least one cohort was computed, over all calls."""
    spans = sorted(
        (begun, begun + timedelta(seconds=each["seconds"]))
        for each in found
        for begun in (datetime.fromisoformat(each["began"]),)
    )
    total, reached = timedelta(), spans[0][0]
    for start, end in spans:
        total += max(timedelta(), end - max(start, reached))
        reached = max(reached, end)
    return total.total_seconds() / 60


def _what(found: Sequence[Stored], origin: Origin) -> str:
    seeds = sorted({each["seed"] for each in found})
    commits = sorted({each["commit"] for each in found})
    trials = len(found) * len(ARMS) * len(INITIALISATIONS)
    seconds = sum(each["cpu_seconds"] for each in found)
    return (
        f"`{origin.command}` on commit {listed([f'`{each}`' for each in commits])}: {len(WORLDS)} "
        f"simulated worlds × {len(seeds)} cohorts (seeds {seeds[0]} to {seeds[-1]}) × {len(ARMS)} "
        f"arms × {len(INITIALISATIONS)} initialisations = {trials:,} trials in "
        f"{wall_minutes(found):.0f} minutes with {origin.workers} processes ({seconds / 60:.0f} "
        f"CPU minutes). {origin.settings}\n\n"
        "A cohort is a world of its own: tissue, encoder, scanners, training patients and an "
        "independent test cohort in which all scanners see every slide, one of them unseen in "
        "training. An arm's number in a cohort is the mean over its initialisations. Comparisons "
        f"are with `{REFERENCE}` (all scans, no loss) in the same cohort; intervals are 95 % t "
        "intervals over cohorts. Scales are compared by ratio (geometric mean). **Controlled "
        "shift**: the biology of a test slide is the same on every scanner, so all that moves is "
        "the scanner's (and its missing tiles'): the inconsistency is the move between scanners, "
        "the oracle distance the root mean square move from the score of the slide as no scanner "
        "touched it, in units of the SD of those scores."
    )


def _primary(judged: dict[tuple[str, str], Verdict]) -> str:
    it = judged[PRIMARY_WORLD, PRIMARY_ARM]
    shown = it.ratio.high < 0 and it.auroc.low > -MARGIN
    return (
        f"**Primary contrast**: {PRIMARY}. Found: inconsistency × {ratio(it.ratio)}, AUROC "
        f"{difference(it.auroc)}: **{'shown' if shown else 'not shown'}**."
    )


def _words(cohorts: Cohorts, judged: dict[tuple[str, str], Verdict]) -> str:
    base = {arm: verdict for (world, arm), verdict in judged.items() if world == PRIMARY_WORLD}
    lines = [
        f"- In the base world `{REFERENCE}` has an AUROC of "
        f"{plain(cohorts.mean(PRIMARY_WORLD, REFERENCE, 'auroc'))} and an inconsistency of "
        f"{scale(cohorts.mean(PRIMARY_WORLD, REFERENCE, 'inconsistency'))}. "
        + " ".join(_group(base, symbol) for symbol in ("+", "(+)", "±", "a", "·", "−"))
    ]
    lines += [_pairs(cohorts, loss) for loss in ("infonce", "score")]
    shifted = [world.name for world in WORLDS if not world.null]
    wins = {
        arm: sum(judged[world, arm].symbol == "+" for world in shifted) for arm in summary.others()
    }
    ordered = sorted(wins, key=lambda arm: -wins[arm])
    some = [f"`{arm}` {wins[arm]}" for arm in ordered if wins[arm]]
    never = [
        f"`{arm}`" for arm in ordered if not wins[arm] and judged[PRIMARY_WORLD, arm].symbol != "0"
    ]
    lines.append(
        f"- Worlds of {len(shifted)} with a scanner effect in which an arm wins (`+`): "
        f"{listed(some)}. In none: {listed(never)}."
    )
    lines += [_least(judged, shifted), _least_on_seen(cohorts, shifted)]
    if cohorts.failures:
        said = [f"`{arm}` in {count} cohorts" for arm, count in sorted(cohorts.failures.items())]
        lines.append(f"- **Training failed** for {listed(said)}; those cells have holes.")
    return "\n".join(lines)


def _group(base: dict[str, Verdict], symbol: str) -> str:
    arms = [f"`{arm}`" for arm, verdict in base.items() if verdict.symbol == symbol]
    words = VERDICTS[symbol]
    return f"{words[0].upper()}{words[1:]} (`{symbol}`): {listed(arms)}."


def _pairs(cohorts: Cohorts, loss: str) -> str:
    """Say what the true pairs add to the same loss on pairs of another kind."""
    said = []
    for control in (arm.name for arm in ARMS if arm.copies == loss):
        ratios = statistics.estimate(
            cohorts.against(PRIMARY_WORLD, loss, "inconsistency", reference=control)
        )
        auroc = statistics.estimate(
            cohorts.against(PRIMARY_WORLD, loss, "auroc", reference=control)
        )
        kind = control.partition(", ")[2]
        said.append(f"than with {kind} × {ratio(ratios)} (AUROC {difference(auroc)})")
    return f"- `{loss}` with true pairs, base world, inconsistency: {'; '.join(said)}."


def _least(judged: dict[tuple[str, str], Verdict], shifted: Sequence[str]) -> str:
    said = []
    for world in shifted:
        held = [
            (verdict.ratio.mean, arm)
            for (where, arm), verdict in judged.items()
            if where == world and verdict.symbol == "+"
        ]
        said.append(f"{world}: " + (f"`{min(held)[1]}`" if held else "none"))
    return f"- The least inconsistent of the arms that win: {'; '.join(said)}."


def _least_on_seen(cohorts: Cohorts, shifted: Sequence[str]) -> str:
    metric, said = "seen_inconsistency", []
    for world in shifted:
        values = {arm: cohorts.mean(world, arm, metric) for arm in summary.others()}
        value, arm = min((value, arm) for arm, value in values.items() if value > 0)
        reference = cohorts.mean(world, REFERENCE, metric)
        said.append(f"{world}: `{arm}` {scale(value)} ({scale(reference)} without)")
    return (
        "- On seen scanners alone, the least inconsistent whatever its AUROC (input methods by "
        f"scanner leave an unseen scanner as it is): {'; '.join(said)}."
    )


def _nulls(cohorts: Cohorts) -> str:
    rows = [
        [check.name, check.text, "honest" if check.honest else "**NOT HONEST**"]
        for check in nulls.checks(cohorts)
    ]
    said = summary.verdicts(cohorts)
    arms = [f"`{arm}`" for arm in summary.others() if said[nulls.NO_EFFECT, arm].symbol == "+"]
    more = [f"`{arm}`" for arm in summary.others() if said[nulls.NO_EFFECT, arm].symbol == "a"]
    return (
        table(["null", "found", "verdict"], rows)
        + "\n\nNot a null, told for honesty: without a scanner effect scans still lack tiles, so "
        f"that smoothing makes scores less inconsistent. There, `+` have {listed(arms)}, and a "
        f"higher AUROC {listed(more)}: what these arms gain elsewhere is not all about scanners."
    )


def _map(judged: dict[tuple[str, str], Verdict]) -> str:
    legend = "; ".join(f"`{symbol}` {words}" for symbol, words in VERDICTS.items())
    rows = [
        [arm, *(_symbol(judged[world.name, arm]) for world in WORLDS)] for arm in summary.others()
    ]
    return (
        f"Against `{REFERENCE}`, by the intervals, margin {MARGIN}; bold: the inconsistency "
        f"differs after Holm over the arms of a world. {legend}. With shuffled labels there is "
        "nothing to predict, and symbols speak of noise.\n\n"
        + table(["arm", *(world.name for world in WORLDS)], rows)
    )


def _symbol(verdict: Verdict) -> str:
    return f"**{verdict.symbol}**" if verdict.sure and verdict.symbol != "0" else verdict.symbol


def _numbers(judged: dict[tuple[str, str], Verdict]) -> str:
    rows = [[arm, *(_two(judged[world.name, arm]) for world in WORLDS)] for arm in summary.others()]
    return (
        f"Inconsistency as a multiple of that of `{REFERENCE}`, and difference in AUROC. All "
        "metrics with intervals: `results/bench/science.csv`.\n\n"
        + table(["arm", *(world.name for world in WORLDS)], rows)
    )


def _two(verdict: Verdict) -> str:
    times = "0" if verdict.symbol == "0" else scale(float(np.exp(verdict.ratio.mean)))
    return f"{times}, {plain(verdict.auroc.mean, signed=True)}"


def _base(cohorts: Cohorts) -> str:
    rows = []
    for arm in (arm.name for arm in ARMS):
        cells = [arm]
        for metric, _ in SHOWN:
            compared = statistics.estimate(cohorts.against(PRIMARY_WORLD, arm, metric))
            cells.append(_cell(cohorts.mean(PRIMARY_WORLD, arm, metric), compared, arm, metric))
        rows.append(cells)
    return (
        "Mean, and in brackets the comparison with its interval: a difference, or × a ratio.\n\n"
        + table(["arm", *(words for _, words in SHOWN)], rows)
    )


def _cell(mean: float, compared: Estimate, arm: str, metric: str) -> str:
    is_scale = metric in summary.SCALES
    text = scale(mean) if is_scale else plain(mean)
    if arm == REFERENCE or np.isnan(compared.mean):
        return text
    return f"{text} ({f'× {ratio(compared)}' if is_scale else difference(compared)})"
