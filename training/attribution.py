"""The gradient of the score with respect to the embeddings, and its share in scanner directions."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.func import functional_call

from training import evaluation
from training.data.loading import Loader
from training.data.sampling import Rows
from training.data.scans import Scans
from training.lanes import Lanes
from training.losses.survival import interval_risk
from training.metrics.attribution import Subspace, scanner_subspace

RANK = 4
"""Directions of the scanner subspace."""


def subspace(scans: Scans, loader: Loader) -> Subspace:
    """Find the directions in which the scans of a training slide differ between seen scanners.

    All pairs of scans of a slide on different, known scanners, whatever `views` and `pairs` say:
    arms are compared in the same subspace. Augmented views are no scans. Embeddings are pooled as
    the model gets them, so after an input method the subspace is that of what it left.
    """
    rows = scans.of("train", seen_only=True)
    rows = rows[(scans.table["source_scan"] == "").to_numpy()[rows]]
    slide = scans.table["slide"].to_numpy().astype(str)
    scanner = scans.table["scanner"].to_numpy().astype(str)
    first, second = scan_pairs(rows, slide, scanner)
    used = np.unique(np.concatenate([first, second]))
    pooled = mean_pooled(scans, loader, used)
    differences = pooled[np.searchsorted(used, first)] - pooled[np.searchsorted(used, second)]
    return scanner_subspace(differences, rank=RANK)


def scan_pairs(rows: Rows, slide: np.ndarray, scanner: np.ndarray) -> Rows:
    """Pair the scans of each slide that are on different, known scanners, [2, pair].

    Args:
        rows: scans to pair.
        slide: name, of every scan.
        scanner: name, of every scan; empty where it is not known.
    """
    known = rows[scanner[rows] != ""]
    order = known[np.lexsort((scanner[known], slide[known]))]
    starts = np.flatnonzero(np.append(True, slide[order][1:] != slide[order][:-1]))
    found = [
        (a, b)
        for scans in np.split(order, starts[1:])
        for place, a in enumerate(scans.tolist())
        for b in scans[place + 1 :].tolist()
        if scanner[a] != scanner[b]
    ]
    return np.array(found, np.int64).reshape(-1, 2).T


def mean_pooled(scans: Scans, loader: Loader, rows: Rows) -> npt.NDArray[np.float64]:
    """Average the tiles of whole bags, [scan, feature]."""
    found = np.zeros((len(rows), scans.in_dim))
    for places in evaluation.chunks(scans.table["num_tiles"].to_numpy(np.int64)[rows]):
        bags, mask = loader.whole(rows[places])
        real = mask[..., None].to(torch.float64)
        found[places] = ((bags * real).sum(1) / real.sum(1)).cpu().numpy()
    return found


def gradients(lanes: Lanes, lane: int, scans: Scans, loader: Loader, rows: Rows) -> Tensor:
    """Compute the gradient of a lane's scores with respect to a shift of all tiles of a bag.

    d s_c(x + 1 δ^T) / dδ at δ = 0, the sum over tiles of the gradient with respect to each, in
    evaluation mode; logits of several classes are centred over the classes. One lane at a time, so
    that it needs the memory of one and knows nothing of its companions.

    Args:
        lanes: the models.
        lane: whose.
        scans: of the fold.
        loader: reads bags.
        rows: the scans.

    Returns:
        [scan, class, feature].
    """
    kind = lanes.kinds[lane]
    module = lanes.modules[kind].train(False)
    like = dict(module.named_parameters())
    tensors = lanes.named(lanes.flat[lane], lanes.state[lane], kind=kind)
    parameters = {name: tensors[name] for name in like}
    buffers = {name: tensor for name, tensor in tensors.items() if name not in like}
    found: Tensor | None = None
    for places in evaluation.chunks(scans.table["num_tiles"].to_numpy(np.int64)[rows]):
        bags, mask = loader.whole(rows[places])
        shift = bags.new_zeros(len(places), bags.shape[-1], requires_grad=True)
        none = bags.new_empty(0)
        inputs = bags + shift[:, None], mask, (), none, none, None
        scores: Tensor = functional_call(module, (parameters, buffers), inputs)[0]
        if scans.outcomes is not None:
            scores = interval_risk(scores) if scores.shape[1] > 1 else scores
        elif scores.shape[1] > 1:
            scores = scores - scores.mean(1, keepdim=True)
        each = [
            torch.autograd.grad(column.sum(), shift, retain_graph=True)[0] for column in scores.T
        ]
        part = torch.stack(each, 1).cpu()
        if found is None:
            found = part.new_empty(len(rows), *part.shape[1:])
        found[torch.from_numpy(places)] = part
    assert found is not None, "no scans"
    return found
