"""What `make science` computes, frozen: worlds, arms, weights, seeds and the primary contrast.

No number of the reported seeds was looked at before this file was committed, and `frozen` refuses
to report when it differs from its commit.

**Worlds** differ from the base in one thing. A world and a seed make a cohort: its own tissue,
encoder and scanners, `dev` for training and an independent `test` of the same scanners and one that
nobody has seen. Equal seeds share the tissue and the scanners between worlds.

**Arms** have all scans and no loss (`all_scans`) as their reference. An arm that is tuned has
`TRIED` settings; the one that is used was chosen on `TUNING_SEEDS` in the base world by one rule
for all (`tuning.choose`): of the settings whose mean AUROC on the test cohorts is within `MARGIN`
of the arm's best, the least inconsistent. The learning rate is the one chosen for `all_scans`;
`erm` and `leace`, which has no other dial, have their own. A control that copies an arm takes that
arm's setting, so that the two differ in the control alone. `python -m tests.science.tuning` makes
the table of all tried settings. Worlds, sizes and the places of the grids were settled before, by
coarser grids of as many settings on the same development seeds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Change = Mapping[str, Any]
"""Fields of a trial's configuration that an arm sets; inner mappings are merged."""

DEVELOPMENT_SEEDS = tuple(range(100, 120))
TUNING_SEEDS = DEVELOPMENT_SEEDS[:8]
REPORTED_SEEDS = tuple(range(1000, 1020))
INITIALISATIONS = (0, 1)
"""Seeds of each trial in a cohort, averaged: an arm's number is not one initialisation's."""

TRIED = 4
MARGIN = 0.01
"""What the AUROC may lose."""
HONEST = 0.05
"""How often nulls that are all honest may be called dishonest (Holm over the checks)."""

ENCODER = "simulated"
ORACLE = "oracle"
"""Scanner and slide suffix of the scans that no scanner touched; only in the test cohort."""
UNSEEN = "E"
AUGMENTED_VIEWS = 1
"""Views of each dev scan, where an arm compares a scan with a view of it."""
REFERENCE = "all_scans"
LEARNING_RATE = 4e-2


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A simulated world.

    Args:
        name: of it.
        says: what is different from the base.
        simulation: fields of `Simulation` that are.
        change: fields of the trials that are.
        null: nothing is there to be won.
    """

    name: str
    says: str
    simulation: Change = field(default_factory=dict)
    change: Change = field(default_factory=dict)
    null: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """An arm: what is tuned, or which arm it copies.

    Args:
        name: of it.
        family: baseline, pair loss, group loss, label loss, input method or control.
        change: fields that make the arm.
        tried: the tuned settings, `TRIED` of them; none for a copy.
        chosen: which of them is used.
        copies: the arm whose change and setting it starts from.
    """

    name: str
    family: str
    change: Change = field(default_factory=dict)
    tried: tuple[Change, ...] = ()
    chosen: int = 0
    copies: str = ""


SIMULATION: Change = {
    "dev_patients": 128,
    "test_patients": 80,
    "second_slide_share": 0.0,
    "min_tiles": 20,
    "max_tiles": 32,
    "signal": 3.5,
    "bearing_share": 0.3,
    "paired_share": 0.2,
    "confounding": 0.8,
    "scanners": ("A", "B", "C", "D"),
    "unseen_scanners": (UNSEEN,),
    "encoders": {ENCODER: {"dim": 32, "scanner_effect": 1.0}},
    "shift": {"offset": 0.6, "mixing": 0.5, "nonlinear": 0.4, "noise": 0.3, "missing_tiles": 0.1},
}

TRIAL: Change = {
    "encoder": ENCODER,
    "task": {"kind": "binary"},
    "head": {"kind": "attention", "embed_dims": (32,), "attention_dim": 16, "dropout": 0.25},
    "views": "all",
    "unseen_scanners": (UNSEEN, ORACLE),
    "sampling": {"slides_per_batch": 20, "pairs_per_batch": 8},
    "optim": {"lr": LEARNING_RATE, "epochs": 20},
    "stopping": {"validation_share": 0.25, "epoch": "last"},
    "folds": {"kind": "cohort", "train": ("dev",), "test": ("test",)},
    "fold": 0,
}

_NOTHING = {"offset": 0.0, "mixing": 0.0, "nonlinear": 0.0, "noise": 0.0}
_TOTAL = 0.93
"""Root of the summed squares of the base's strengths, given to one part alone."""

WORLDS = (
    World(name="base", says="20 % paired, confounding .8, every kind of shift"),
    World(name="paired 5 %", says="5 % of slides paired", simulation={"paired_share": 0.05}),
    World(name="paired 100 %", says="all slides paired", simulation={"paired_share": 1.0}),
    World(name="confounding 0", says="any class, any scanner", simulation={"confounding": 0.0}),
    World(name="confounding 1", says="the class decides", simulation={"confounding": 1.0}),
    *(
        World(
            name=f"shift {part}",
            says=f"the shift is {words} alone, of the same strength",
            simulation={"shift": _NOTHING | {part: _TOTAL}},
        )
        for part, words in (
            ("offset", "an offset"),
            ("mixing", "a linear mixing"),
            ("nonlinear", "non-linear"),
            ("noise", "noise that depends on the tile"),
        )
    ),
    World(
        name="no scanner effect",
        says="scans of a slide differ by missing tiles only",
        simulation={"encoders": {ENCODER: {"scanner_effect": 0.0}}},
        null=True,
    ),
    World(
        name="shuffled labels",
        says="training labels permuted over patients",
        change={"shuffle_labels": True},
        null=True,
    ),
)  # fmt: skip


def _loss(kind: str, **fields: Any) -> Change:
    return {"losses": ({"kind": kind, **fields},)}


def _weights(kind: str, *weights: float, **fields: Any) -> tuple[Change, ...]:
    return tuple(_loss(kind, weight=weight, **fields) for weight in weights)


def _rates(*rates: float) -> tuple[Change, ...]:
    return tuple({"optim": {"lr": rate}} for rate in rates)


def _pair(infonce: float, score: float) -> Change:
    return {"losses": ({"kind": "infonce", "weight": infonce}, {"kind": "score", "weight": score})}


ARMS = (
    Arm(
        name="erm", family="baseline", change={"views": "routine"},
        tried=_rates(1e-2, 2e-2, 4e-2, 8e-2), chosen=3,
    ),
    Arm(name=REFERENCE, family="baseline", tried=_rates(1e-2, 2e-2, 4e-2, 8e-2), chosen=2),
    Arm(
        name="infonce", family="pair loss", chosen=2,
        tried=_weights("infonce", 0.03, 0.1, 0.3, 1.0),
    ),
    Arm(name="score", family="pair loss", tried=_weights("score", 0.03, 0.1, 0.3, 1.0), chosen=1),
    Arm(
        name="infonce_score", family="pair loss",
        tried=(_pair(0.03, 0.1), _pair(0.1, 0.1), _pair(0.1, 0.3), _pair(0.3, 0.3)), chosen=2,
    ),
    Arm(
        name="embedding", family="pair loss", chosen=2,
        tried=_weights("embedding", 0.1, 0.3, 1.0, 3.0),
    ),
    Arm(
        name="attention", family="pair loss",
        tried=_weights("score", 0.1, 0.3, 1.0, 3.0, form="attention"), chosen=2,
    ),
    Arm(
        name="barlow_twins", family="pair loss",
        tried=_weights("barlow_twins", 0.001, 0.003, 0.01, 0.03), chosen=2,
    ),
    Arm(
        name="vicreg", family="pair loss", chosen=1,
        tried=_weights("vicreg", 0.01, 0.03, 0.1, 0.3),
    ),
    Arm(
        name="scangen", family="pair loss", chosen=2,
        tried=_weights("scangen", 0.03, 0.1, 0.3, 1.0),
    ),
    Arm(name="coral", family="group loss", tried=_weights("coral", 0.1, 0.3, 1.0, 3.0), chosen=2),
    Arm(name="mmd", family="group loss", tried=_weights("mmd", 0.1, 0.3, 0.6, 1.0), chosen=2),
    Arm(
        name="dann", family="group loss",
        tried=_weights("dann", 0.03, 0.1, 0.3, 1.0, discriminator_dims=(32,)),
    ),
    Arm(name="irm", family="group loss", tried=_weights("irm", 0.03, 0.1, 0.3, 1.0)),
    Arm(name="vrex", family="group loss", tried=_weights("vrex", 0.1, 0.3, 1.0, 3.0)),
    Arm(
        name="group_dro", family="group loss",
        tried=tuple(_loss("group_dro", eta=eta) for eta in (0.001, 0.01, 0.1, 1.0)), chosen=3,
    ),
    Arm(
        name="supcon", family="label loss", chosen=3,
        tried=_weights("supcon", 0.3, 1.0, 3.0, 10.0),
    ),
    Arm(
        name="mixup", family="label loss",
        tried=tuple(_loss("mixup", alpha=alpha) for alpha in (0.1, 0.2, 0.5, 1.0)), chosen=1,
    ),
    Arm(
        name="mixstyle", family="input method",
        tried=tuple(
            {"mixstyle": {"probability": p, "alpha": a}}
            for p, a in ((0.25, 0.1), (0.5, 0.1), (0.5, 0.3), (1.0, 0.3))
        ),
    ),
    *(
        Arm(
            name=name, family="input method",
            tried=tuple({"input": {"kind": name, "shrinkage": s}} for s in (0.0, 0.25, 0.5, 0.75)),
            chosen=3,
        )
        for name in ("centre", "standardise")
    ),
    Arm(
        name="centre, full", family="input method", copies="centre",
        change={"input": {"shrinkage": 0.0}},
    ),
    Arm(
        name="combat", family="input method",
        tried=tuple(
            {"input": {"kind": "combat", "mean_only": mean_only, "covariate": covariate}}
            for mean_only in (False, True) for covariate in ("label", "none")
        ),
    ),
    Arm(
        name="leace", family="input method", change={"input": {"kind": "leace"}},
        tried=_rates(1e-2, 2e-2, 4e-2, 8e-2), chosen=3,
    ),
    Arm(
        name="paired_erasure", family="input method",
        tried=tuple({"input": {"kind": "paired_erasure", "rank": rank}} for rank in (2, 4, 8, 16)),
        chosen=2,
    ),
    *(
        Arm(name=f"{loss}, {words}", family="control", copies=loss, change={"pairs": pairs})
        for pairs, words in (
            ("shuffled", "shuffled pairs"),
            ("same_scan", "same-scan pairs"),
            ("augmented", "augmented pairs"),
        )
        for loss in ("infonce", "score")
    ),
    Arm(
        name="dropout", family="control",
        tried=tuple({"head": {"dropout": share}} for share in (0.0, 0.1, 0.4, 0.6)), chosen=1,
    ),
    Arm(
        name="weight_decay", family="control",
        tried=tuple({"optim": {"weight_decay": decay}} for decay in (0.03, 0.1, 0.3, 1.0)),
    ),
    Arm(
        name="noise", family="control",
        tried=tuple({"regularisation": {"noise": sd}} for sd in (0.05, 0.1, 0.3, 1.0)), chosen=1,
    ),
    Arm(
        name="label_smoothing", family="control",
        tried=tuple({"regularisation": {"label_smoothing": s}} for s in (0.1, 0.2, 0.4, 0.6)),
        chosen=2,
    ),
    Arm(
        name="mean over scans", family="control", copies=REFERENCE,
        change={"test_time": "mean_over_scans"},
    ),
)  # fmt: skip

PRIMARY_ARM = "infonce_score"
PRIMARY_WORLD = "base"
PRIMARY = (
    f"{PRIMARY_ARM} against {REFERENCE} in the world {PRIMARY_WORLD!r}: lower inconsistency (95 % "
    f"interval of the ratio below 1), and an AUROC that is not lower by {MARGIN} (interval above)"
)
SHUFFLED_PAIRS = ("infonce, shuffled pairs", "score, shuffled pairs")
