"""Every kind of loss in its variants, and a batch and a cohort to compute them on."""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import torch
from pydantic import TypeAdapter

from tests.training import small
from training import objective
from training.config import Loss, Sampling, TrialConfig
from training.config_losses import PairLoss
from training.data.index import Dataset
from training.data.loading import Batch
from training.models import Output

GIVEN: list[dict[str, object]] = [
    {"kind": "infonce"},
    {"kind": "infonce", "level": "tile", "negatives": "mixed", "projection_dim": 4},
    *(
        {"kind": "score", "form": form}
        for form in ("logit_mse", "probability_mse", "variance", "jensen_shannon", "huber")
    ),
    {"kind": "score", "form": "attention"},
    *(
        {"kind": "embedding", "form": form, "level": level}
        for form in ("mse", "cosine")
        for level in ("bag", "tile")
    ),
    {"kind": "barlow_twins", "off_diagonal": 0.1},
    {"kind": "barlow_twins", "level": "tile", "projection_dim": 4},
    {"kind": "vicreg"},
    {"kind": "vicreg", "level": "tile", "projection_dim": 4},
    {"kind": "scangen"},
    {"kind": "coral"},
    {"kind": "coral", "means": False, "group": "site"},
    {"kind": "mmd"},
    {"kind": "lmmd", "group": "site"},
    {"kind": "dann", "discriminator_dims": (6, 5)},
    {"kind": "cdann", "discriminator_dims": (6,), "group": "site"},
    {"kind": "irm"},
    {"kind": "irm", "anneal_steps": 3},
    {"kind": "vrex", "anneal_steps": 2},
    {"kind": "group_dro", "eta": 0.5},
    {"kind": "supcon"},
    {"kind": "supcon", "positives": "other_group", "projection_dim": 4},
    {"kind": "mixup", "alpha": 0.7},
    {"kind": "clam_clustering", "num_tiles": 2},
    {"kind": "clam_clustering", "num_tiles": 1, "form": "cross_entropy", "out_of_class": True},
]
LOSS: TypeAdapter[Loss] = TypeAdapter(Loss)
LOSSES: list[Loss] = [LOSS.validate_python(each) for each in GIVEN]
NUM_GROUPS = {"scanner": 3, "site": 4}
DIM = 5


def named(loss: Loss) -> str:
    rest = loss.model_dump(exclude_defaults=True, exclude={"kind"})
    return "-".join([loss.kind, *(str(value) for value in rest.values())])


def between_scans(loss: Loss) -> bool:
    return isinstance(loss, PairLoss)


def kinds() -> set[str]:
    members = [
        each for union in get_args(get_args(Loss)[0]) for each in (get_args(union) or (union,))
    ]
    return {get_args(each.model_fields["kind"].annotation)[0] for each in members}


def cohort(root: Path) -> Dataset:
    """The small cohort with three sites."""
    views = [
        replace(view, site=f"site {int(view.patient.split()[1]) % 4 % 3}") for view in small.views()
    ]
    return small.cohort(root, views)


def head(loss: Loss, **changed: object) -> dict[str, object]:
    """A head that the loss can be beside; by default that of `small.trial`."""
    kind = "clam_sb" if loss.kind == "clam_clustering" else "gated_attention"
    given = {"embed_dims": (13, 9), "attention_dim": 5, "dropout": 0.25, **changed}
    return {"kind": kind, **given}


def trial(seed: int, loss: Loss, **changed: object) -> TrialConfig:
    """A lane whose seed decides about weight and temperature too."""
    update: dict[str, object] = {"weight": 0.1 + 0.1 * (seed % 5)}
    if hasattr(loss, "temperature"):
        update["temperature"] = 0.1 + 0.05 * seed
    given = {"losses": (loss.model_copy(update=update),), "head": head(loss)} | changed
    return small.trial(seed, **given)


def batch(
    num_routine: int = 6, num_pairs: int = 4, num_tiles: int = 5, seed: int = 0, dim: int = DIM
) -> Batch:
    """Routine bags and pairs, with scanners, sites and labels."""
    draw = torch.Generator().manual_seed(seed)
    total = num_routine + 2 * num_pairs
    first, second = torch.zeros(num_pairs).long(), torch.ones(num_pairs).long()
    scanner = torch.cat([torch.randint(0, 3, (num_routine,), generator=draw), first, second])
    mine = torch.arange(num_pairs)
    label = torch.cat([torch.arange(num_routine), mine, mine]) % 2
    return Batch(
        bags=torch.randn(total, num_tiles, dim, generator=draw).double(),
        mask=torch.ones(total, num_tiles, dtype=torch.bool),
        label=label,
        weight=torch.cat([torch.ones(num_routine), torch.full((2 * num_pairs,), 0.5)]).double(),
        num_routine=num_routine,
        matched=torch.arange(num_tiles) < 1 + torch.arange(num_pairs)[:, None] % num_tiles,
        first_scanner=first,
        second_scanner=second,
        patient=mine,
        groups={"scanner": scanner, "site": torch.randint(-1, 4, (total,), generator=draw)},
        key=(0, 0, 1, 0),
    )


def output(of: Batch, num_outputs: int = 1, seed: int = 1) -> Output:
    """Random answers of a model to a batch, with gradients."""
    draw = torch.Generator().manual_seed(seed)
    total, num_tiles = of.mask.shape
    attention = torch.softmax(torch.randn(total, num_tiles, generator=draw).double(), 1)
    dim = of.bags.shape[2]
    sizes = ((total, num_outputs), (total, dim), (total, num_tiles, dim))
    scores, bags, instances = (torch.randn(s, generator=draw).double() for s in sizes)
    found = Output(scores, bags, instances, attention)
    return Output(*(each.requires_grad_() for each in found[:4]))


def made(loss: Loss, num_outputs: int = 1, seed: int = 0, dim: int = DIM) -> objective.Objective:
    """The loss beside a model whose embeddings have width `dim`."""
    config = small.trial(
        head=head(loss, embed_dims=(dim,), attention_dim=3),
        losses=(loss,),
        precision="float64",
        sampling=Sampling(tiles_per_bag=4),
    )
    return objective.initialise(
        config, seed, in_dim=dim, num_outputs=num_outputs, num_groups=NUM_GROUPS
    )


def value(
    loss: Loss, at: Output, of: Batch, model: objective.Objective | None = None
) -> torch.Tensor:
    """Compute the loss on a model's answers."""
    tau = torch.tensor(0.3).double()
    return (model or made(loss, at.scores.shape[1]))._robustness(0, loss, at, of, tau)
