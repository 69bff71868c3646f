"""The sections of record: failures, cost, provenance, and how to read the page."""

import json
from collections import Counter

import pandas as pd

from orchestrator import costs
from orchestrator.report_material import Material
from orchestrator.report_parts import Section, Table
from orchestrator.report_summary import RECONSTRUCTION
from orchestrator.wording import counted, joined, label_of, number

FINGERPRINTS_MAX = 50
"""Fingerprints of data that are listed; the plan has all of them."""

_KINDS = {
    "seed_sd": "SD over seeds",
    "draw_sd": "SD over draw seeds",
    "fold_sd": "SD over folds",
    "sampling_sd": "SD over patients",
}

MEANINGS = {
    "auroc": "area under the ROC curve on a scanner, mean over the seen scanners",
    "concordance": "share of comparable pairs of patients in the right order (Harrell), mean over "
    "the seen scanners",
    "accuracy": "share of right classes at the threshold fixed in training",
    "balanced_accuracy": "mean over classes of the share of right answers",
    "brier": "mean squared difference of probability and label",
    "inconsistency": "how far a slide's score moves between scanners, over how far slides differ",
    "flip_rate": "share of patients whose class changes between scanners",
    "icc_agreement": "intraclass correlation (2,1) of slides over scanners",
    "rmsd": "root mean square difference of the scores of a slide on two scanners",
    "worst_scanner_auroc": "lowest AUROC of the scanners in training",
    "unseen_scanner_auroc": "AUROC on scanners kept out of training",
    "worst_scanner_concordance": "lowest concordance of the scanners in training",
    "unseen_scanner_concordance": "concordance on scanners kept out of training",
    "worst_group_accuracy": "lowest share of right answers of any class on any scanner in training",
}


def sections(material: Material) -> list[Section]:
    """Make the sections, in the order of the page."""
    return [_costs(material), _provenance(material), _reading(material)]


def _costs(material: Material) -> Section:
    trials = material.results.trials
    cost = costs.count(material.told, material.state, material.plan, trials)
    failed = costs.failures(material.told, material.state)
    used = (
        f"Pilots held GPUs for {number(cost.gpu_hours, digits=2)} GPU-hours, waiting included; "
        "they are divided between arms as their training time is."
        if cost.gpu_hours
        else "Nothing has trained yet."
        if not len(trials)
        else "No GPU was used: the sweep trained on CPUs."
        if set(cost.devices) <= {"cpu"}
        else "Trained without pilots: no GPU-hours were billed to it."
    )
    devices = f" Trained on {joined(cost.devices)}." if cost.devices else ""
    formats = {"training_hours": "hours", "gpu_hours": "hours", "share": "share"}
    tables = [
        Table(
            name="costs",
            caption="Training time by arm",
            frame=cost.arms,
            formats={**formats, "trials": "count"},
            notes=(
                "Hours of the trials that count, each an equal share of its pack's time: arms that "
                "train in one pack do not differ in it. A trial in cells of several arms counts in "
                "the first.",
            ),
            filters=False,
        )
    ]
    if len(failed):
        counts = dict.fromkeys(("attempts", "lanes", "given_up"), "count")
        tables.append(
            Table(
                name="failures",
                caption="Failures by class",
                frame=failed,
                formats=counts,
                notes=(
                    "Attempts at packs that ended so; lanes that died while their pack went on; "
                    "trials given up for it.",
                ),
                filters=False,
            )
        )
    return Section(
        anchor="costs",
        title="Failures and cost",
        text=(f"{used}{devices}", "" if len(failed) else "Nothing failed."),
        tables=tuple(tables),
    )


def _provenance(material: Material) -> Section:
    trials = material.results.trials
    jobs = costs.jobs(material.state)
    tables = [_facts(material, trials)]
    if len(jobs):
        tables.append(
            Table(
                name="jobs",
                caption="SLURM jobs",
                frame=jobs,
                formats={"gpus": "count", "hours": "hours"},
            )
        )
    prints = material.plan.drop_duplicates(["encoder", "fold", "fingerprint"])
    prints = prints[["encoder", "fold", "fingerprint"]].reset_index(drop=True)
    more = len(prints) - FINGERPRINTS_MAX
    tables.append(
        Table(
            name="data",
            caption="Fingerprints of the data",
            frame=prints.head(FINGERPRINTS_MAX),
            formats={},
            notes=(
                "Of the checksums of the bags, labels and patients of a fold; plan.parquet has "
                f"{'all of them' if more > 0 else 'them, too'}.",
            ),
            filters=False,
        )
    )
    code = json.dumps(dict(material.code), indent=1, ensure_ascii=False, sort_keys=True)
    return Section(
        anchor="provenance",
        title="Provenance",
        text=(_versions(trials),),
        tables=tuple(tables),
        texts=(
            ("The spec as launched", material.text),
            ("Code and versions at the last launch", code),
        ),
    )


def _facts(material: Material, trials: pd.DataFrame) -> Table:
    licences = {name: ", ".join(told) for name, told in material.cells.notes.licences.items()}
    begun = material.told[0]["time"] if material.told else ""
    last = material.told[-1]["time"] if material.told else ""
    commits = Counter(trials["commit"].astype(str)) if "commit" in trials else Counter[str]()
    rows = [
        ("sweep", material.folder.name),
        ("commit", joined([f"{c} ({counted(n, 'trial')})" for c, n in sorted(commits.items())])),
        ("SLURM jobs", joined([e["job"] for e in material.state.submitted], most=12) or "none"),
        ("first event", begun),
        ("last event", last),
        *((f"licence of {name}", told or "not stated") for name, told in licences.items()),
    ]
    return Table(
        name="provenance",
        caption="Where the numbers come from",
        frame=pd.DataFrame(rows, columns=["what", "value"]),
        formats={},
        filters=False,
    )


def _versions(trials: pd.DataFrame) -> str:
    if not len(trials) or "versions" not in trials:
        return "No trial has a result yet."
    versions = trials["commit"].astype(str) + " " + trials["versions"].astype(str)
    if versions.nunique() == 1:
        return "All trials come from one commit and one set of library versions."
    text = f"Trials come from {versions.nunique()} combinations of commit and library versions"
    return f"{text}: cells that mix them are marked."


def _reading(material: Material) -> Section:
    there = [name for name in MEANINGS if name in material.tradeoff]
    table = pd.DataFrame(
        {"metric": [label_of(n) for n in there], "meaning": [MEANINGS[n] for n in there]}
    )
    text = [
        "A cell is an encoder, an arm and its settings; its trials differ in fold and seed. Its "
        "value is the mean over folds of the mean over seeds of a trial's metric on held-out "
        "patients; predictions are never pooled over folds.",
        "An interval says how the performance of these fitted models would vary with other "
        "patients. It does not cover training again: the spread over seeds and folds stands in "
        "the last table below.",
    ]
    if any(material.losses.values()):
        text.append(RECONSTRUCTION)
    return Section(
        anchor="reading",
        title="How to read this",
        text=tuple(text),
        tables=(
            Table(name="metrics", caption="Metrics", frame=table, formats={}, filters=False),
            _spread(material),
        ),
    )


def _spread(material: Material) -> Table:
    """Show apart what a value varies with."""
    kinds = ["seed_sd", "draw_sd", "fold_sd", "sampling_sd"]
    cells = material.cells.cells
    keys = [name for name in ("encoder", "arm", *material.axes) if name in cells]
    return Table(
        name="spread",
        caption="What a value varies with",
        frame=cells[[*keys, "metric", *kinds]].rename(columns=_KINDS),
        formats={"metric": "metric", **dict.fromkeys(_KINDS.values(), "number")},
        notes=(
            "Standard deviations: over seeds within a fold, over draws of the data, over means of "
            "folds, and over draws of patients, which is what an interval is made of. They are not "
            "to be added up.",
        ),
    )


def last_time(material: Material) -> str:
    """Tell when something last happened in the sweep, to the minute; empty before."""
    return material.told[-1]["time"][:16].replace("T", " ") if material.told else ""
