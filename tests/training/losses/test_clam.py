import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.training import small
from training.config import Task
from training.config_losses import ClamClustering
from training.losses.clam import InstanceClustering, extremes
from training.trainer import train

LOSS = ClamClustering(kind="clam_clustering", num_tiles=2, weight=0.5)


def module(num_classes: int, **changed: object) -> InstanceClustering:
    torch.manual_seed(0)
    given = {"num_tiles": 2, "form": "smooth_svm", "out_of_class": False} | changed
    return InstanceClustering(3, num_classes, **given).double()


def slow(of: InstanceClustering, instances, attention, mask, label, weight) -> float:
    """Sort every bag on its own, with two logits per class as the paper has them."""
    weights, biases = of.classifiers.weight.detach().numpy(), of.classifiers.bias.detach().numpy()

    def tile(c: int, row, target: int) -> float:
        scores = [0.0, float(weights[c] @ row + biases[c])]
        margin = of.margin
        raised = [s + margin * (k != target) for k, s in enumerate(scores)]
        return math.log(sum(map(math.exp, raised))) - scores[target]

    total = 0.0
    for bag in range(len(label)):
        rows = instances[bag][mask[bag]]
        size = min(of.num_tiles, len(rows) // 2)
        found = 0.0
        for c in range(len(weights)):
            branch = c if attention.shape[1] > 1 else 0
            order = np.argsort(-attention[bag, branch][mask[bag]], kind="stable")
            top = [rows[n] for n in order[:size]]
            bottom = [rows[n] for n in order[::-1][:size]]
            if not size:
                continue
            if c == label[bag]:
                each = [tile(c, row, 1) for row in top] + [tile(c, row, 0) for row in bottom]
                found += float(np.mean(each))
            elif of.out_of_class:
                found += float(np.mean([tile(c, row, 0) for row in top]))
        total += weight[bag] * found / (len(weights) if of.out_of_class else 1)
    return total / weight.sum()


@settings(deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(2, 4),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["smooth_svm", "cross_entropy"]),
    st.integers(1, 5),
)
def test_the_loss_equals_a_loop(seed, num_classes, branched, out_of_class, form, num_tiles):
    draw = np.random.default_rng(seed)
    instances = draw.normal(size=(5, 7, 3)) * 2
    mask = np.arange(7) < draw.integers(1, 8, size=(5, 1))
    branches = num_classes if branched else 1
    attention = draw.random((5, branches, 7)).round(1) * mask[:, None]  # with ties
    label, weight = draw.integers(0, num_classes, 5), draw.choice([0.5, 1.0], size=5)
    of = module(num_classes, num_tiles=num_tiles, form=form, out_of_class=out_of_class)
    found = of(*map(torch.from_numpy, (instances, attention, mask, label, weight)))
    expected = slow(of, instances, attention, mask, label, weight)
    assert found.item() == pytest.approx(expected, rel=1e-10, abs=1e-12)


def test_the_loss_equals_the_value_by_hand():
    # One unit, w = 1 and b = 0 for class 1; the most attended tile has u = 1, the least u = -2.
    of = InstanceClustering(1, 2, num_tiles=1, form="smooth_svm", out_of_class=False).double()
    with torch.no_grad():
        of.classifiers.weight.copy_(torch.tensor([[7.0], [1.0]]))
        of.classifiers.bias.copy_(torch.tensor([3.0, 0.0]))
    instances = torch.tensor([[[5.0], [1.0], [-2.0], [99.0]]]).double()
    attention = torch.tensor([[[0.3, 0.5, 0.2, 0.0]]]).double()
    mask = torch.tensor([[True, True, True, False]])
    found = of(instances, attention, mask, torch.tensor([1]), torch.ones(1).double())
    expected = (math.log(1 + math.exp(0)) + math.log(1 + math.exp(-1))) / 2
    assert found.item() == pytest.approx(expected, abs=1e-14)


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 6))
def test_no_tile_is_both_and_padding_neither(seed, num_tiles, wanted):
    draw = torch.Generator().manual_seed(seed)
    mask = torch.arange(12) < num_tiles
    attention = torch.rand(1, 2, 12, generator=draw).masked_fill(~mask, 0.0)
    top, bottom = extremes(attention, mask[None], wanted)
    size = min(wanted, num_tiles // 2)
    assert (top.sum(-1) == size).all() and (bottom.sum(-1) == size).all()
    assert not (top & bottom).any() and not ((top | bottom) & ~mask).any()
    for branch in range(2) if size else ():
        here = attention[0, branch]
        assert here[top[0, branch]].min() >= here[bottom[0, branch]].max()


def test_a_bag_of_one_tile_gives_nothing():
    of = module(2)
    bags = torch.randn(1, 1, 3).double(), torch.ones(1, 1, 1).double()
    rest = torch.ones(1, 1, dtype=torch.bool), torch.tensor([0]), torch.ones(1).double()
    assert of(*bags, *rest).item() == 0


@pytest.mark.parametrize("kind", ["clam_sb", "clam_mb"])
@pytest.mark.parametrize("num_classes", [2, 3])
def test_it_trains_with_its_heads_and_lanes_are_bit_identical(
    tmp_path: Path, kind: str, num_classes: int
):
    data = small.cohort(tmp_path, num_classes=num_classes)
    task = Task(kind="binary" if num_classes == 2 else "multiclass")
    head = {"kind": kind, "embed_dims": (13, 9), "attention_dim": 5}

    def config(seed: int):
        loss = LOSS.model_copy(update={"weight": 0.1 + seed, "out_of_class": True})
        return small.trial(seed, views="routine", losses=(loss,), head=head, task=task)

    everyone = train([config(seed) for seed in range(8)], data)
    assert {result.state for result in everyone} == {"done"}
    assert (everyone[0].curves["clam_clustering"] > 0).all()
    for chosen in ([7, 0], [1, 2, 4]):
        for seed, result in zip(chosen, train([config(s) for s in chosen], data), strict=True):
            small.assert_same(result, everyone[seed])


def test_the_classifiers_of_tiles_learn():
    """Attended tiles that differ from the others are told apart within some steps."""
    of = module(2)
    draw = torch.Generator().manual_seed(0)
    instances = torch.randn(8, 10, 3, generator=draw).double()
    attention = torch.softmax(2 * instances[..., 0], 1).unsqueeze(1)
    rest = torch.ones(8, 10, dtype=torch.bool), torch.arange(8) % 2, torch.ones(8).double()
    optimiser = torch.optim.Adam(of.parameters(), lr=0.1)
    values = []
    for _ in range(100):
        loss = of(instances, attention, *rest)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        values.append(loss.item())
    assert values[-1] < 0.3 * values[0]


@pytest.mark.parametrize("kind", ["gated_attention", "dsmil", "mean"])
def test_other_heads_are_refused(kind: str):
    with pytest.raises(ValidationError, match=f"head of kind clam_sb or clam_mb, not {kind}"):
        small.trial(losses=(LOSS,), head={"kind": kind})


def test_a_survival_task_is_refused():
    with pytest.raises(ValidationError, match="clam_clustering needs classes"):
        small.trial(losses=(LOSS,), head={"kind": "clam_sb"}, task=Task(kind="survival"))
