"""The sections that look closer: scanners, embeddings, training."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from orchestrator import figures, figures_scanners
from orchestrator.canvas import Figure
from orchestrator.figures_scanners import Pair
from orchestrator.report_material import Material
from orchestrator.report_parts import Section, Table

ENCODERS_MAX = 8
"""Encoders whose slides are drawn."""
QUANTITIES = ("task_loss", "validation_loss", "validation_auroc", "validation_concordance")
"""Curves of training that are drawn, where there are any."""


def sections(material: Material) -> list[Section]:
    """Make the sections that the sweep has something for."""
    made = [_scanners(material), _representation(material), _training(material)]
    return [section for section in made if section is not None]


def _scanners(material: Material) -> Section | None:
    known = material.results.predictions
    if known.empty or known.loc[known["held_out"].eq(True), "scanner"].nunique() < 2:
        return None
    drawn: list[Figure] = []
    for encoder in list(dict.fromkeys(material.plan["encoder"]))[:ENCODERS_MAX]:
        drawn += _slides(material, encoder)
    tables = []
    if material.scanners is not None:
        formats = dict.fromkeys(_numbers(material.scanners), "number")
        tables.append(
            Table(
                name="scanners",
                caption="Every cell on every scanner",
                frame=material.scanners,
                formats={**formats, "seen": "flag", "patients": "count"},
                notes=(
                    "Mean over folds of the mean over seeds; seen: a scanner of the training part.",
                ),
            )
        )
    first = material.reference or "the first cell"
    return Section(
        anchor="scanners",
        title="Scanners",
        text=(
            f"The same slides on the two scanners of the training part on which {first} differs "
            "the most; also for the cell that is the least inconsistent on these patients. That "
            "cell was picked by looking at them: it illustrates, and proves nothing. All folds and "
            "seeds of a cell are drawn together, and the numbers in the captions are of these "
            "points; those of the tables are averaged over seeds, then over folds.",
        ),
        figures=tuple(drawn),
        tables=tuple(tables),
    )


def _slides(material: Material, encoder: str) -> list[Figure]:
    """Draw the slides of the reference and of the least inconsistent cell."""
    cells = material.tradeoff.set_axis(material.joined.cells.index, axis=0)
    own = cells[cells["encoder"] == encoder]
    base = own[own["arm"] == material.reference].index[:1].tolist()
    spread = own["inconsistency"].dropna() if "inconsistency" in own else pd.Series(dtype=float)
    least = [] if spread.empty else [spread.idxmin()]
    chosen = list(dict.fromkeys([*base, *least])) or own.index[:1].tolist()
    predictions, pair, drawn = material.results.predictions, None, []
    for cell in chosen:
        trials = _trials(material, int(cell))
        scores = figures_scanners.wide(predictions, trials)
        pair = pair or figures_scanners.furthest(scores, _seen(material, encoder, scores))
        name = figures.names(cells.loc[[cell]], material.axes)[0]
        if pair is None or pair[0] not in scores or pair[1] not in scores:
            continue
        both = scores[list(pair)].dropna().to_numpy()
        each = Pair(encoder=encoder, cell=name, first=pair[0], second=pair[1], scores=both)
        drawn += [figures_scanners.scatter(each), figures_scanners.bland_altman(each)]
        probability = _probability(material, trials)
        if probability is not None:
            drawn.append(figures_scanners.calibration(encoder, name, probability))
    return drawn


def _trials(material: Material, cell: int) -> list[str]:
    rows = material.joined.rows
    done = rows["trial"].isin(material.joined.known.index)
    return list(dict.fromkeys(rows.loc[(rows["cell"] == cell) & done, "trial"]))


def _seen(material: Material, encoder: str, scores: pd.DataFrame) -> list[str]:
    """Name the scanners of the training part; all of them where the tables do not say."""
    table = material.scanners
    if table is None:
        return [str(name) for name in scores.columns]
    rows = table[(table["encoder"] == encoder) & table["seen"]]
    return list(dict.fromkeys(rows["scanner"]))


def _probability(material: Material, trials: Sequence[str]) -> pd.DataFrame | None:
    """Give the probability of each patient on each scanner; None unless the task is binary."""
    tasks = [task.cases for task in material.joined.tasks if not task.survival]
    found = next((cases for cases in tasks if cases.ids.isin(trials).any()), None)
    if found is None or found.patient.score.shape[1] != 1:
        return None
    case = found.patient
    mine = np.isin(case.trial, found.ids.get_indexer(pd.Index(trials)))
    trial, scanner = case.trial[mine], case.scanner[mine]
    return pd.DataFrame(
        {
            "scanner": found.scanners[scanner],
            "probability": 1 / (1 + np.exp(-case.score[mine, 0].clip(-500, 500))),
            "label": case.label[mine],
            "seen": found.seen[trial, scanner],
        }
    ).sort_values(["scanner", "probability"], kind="stable", ignore_index=True)


def _representation(material: Material) -> Section | None:
    table = material.representation
    if table is None:
        if material.spec is None or material.spec.artefacts.embeddings == "none":
            return None
        return Section(
            anchor="embeddings",
            title="Embeddings",
            text=(
                f"This sweep kept its embeddings. `sweep aggregate {material.folder.name} "
                "--representation` measures what they say of scanner and label; the next report "
                "shows it.",
            ),
        )
    return Section(
        anchor="embeddings",
        title="Embeddings",
        text=(
            "What the embeddings say of the scanner and of the label, in nats, by a probe on "
            "held-out patients. Selectivity is the share of the information on the scanner that is "
            "lost less the share on the label: above zero, a method takes more of the scanner away "
            "than of the label.",
        ),
        tables=(
            Table(
                name="representation",
                caption="Scanner and label in the embeddings",
                frame=table,
                formats={
                    **dict.fromkeys(_numbers(table), "number"), "scanner_p": "p", "label_p": "p",
                },
                notes=(f"Written by sweep aggregate {material.folder.name} --representation.",),
            ),
        ),
    )  # fmt: skip


def _training(material: Material) -> Section | None:
    if material.curves.empty:
        return None
    known = set(material.curves["quantity"])
    arms = material.plan[["trial", "encoder", "arm"]]
    first = list(dict.fromkeys(arms["encoder"]))[:ENCODERS_MAX]
    drawn = figures.training(
        material.curves,
        arms[arms["encoder"].isin(first)],
        quantities=[name for name in QUANTITIES if name in known],
    )
    return Section(
        anchor="training",
        title="Training curves",
        text=("Curves that still fall at the last epoch, or an arm whose validation loss rises "
              "early, say that the settings and not the method may be compared.",),
        figures=tuple(drawn),
    )  # fmt: skip


def _numbers(table: pd.DataFrame) -> list[str]:
    return [str(name) for name in table.columns if table[name].dtype.kind == "f"]
