"""What `build` makes; what every model promises is in test_contract.py."""

import pytest
import torch
from pydantic import ValidationError

from training.config_heads import (
    ClamMBHead,
    ClamSBHead,
    DSMILHead,
    GatedAttentionHead,
    LinearProbeHead,
    MeanHead,
    TransMILHead,
)
from training.models import build

WIDE = {"embed_dims": (8, 6), "attention_dim": 4}


def test_linear_layers_before_batch_norm_have_no_bias():
    for norm in ("batch", "none"):
        head = MeanHead(kind="mean", embed_dims=(8, 6), norm=norm)
        found = build(head, in_dim=5, num_outputs=1).state_dict()
        assert ("embedding.layers.0.linear.bias" in found) == (norm == "none")


def test_clam_sb_is_gated_attention_to_the_bit():
    models = []
    for head in (
        ClamSBHead(kind="clam_sb", **WIDE),
        GatedAttentionHead(kind="gated_attention", **WIDE),
    ):
        torch.manual_seed(0)
        models.append(build(head, in_dim=5, num_outputs=2).state_dict())
    assert models[0].keys() == models[1].keys()
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])


def test_the_linear_probe_is_a_linear_layer_on_the_mean_of_real_embeddings():
    model = build(LinearProbeHead(kind="linear_probe"), in_dim=2, num_outputs=1)
    assert sorted(model.state_dict()) == ["classifier.bias", "classifier.weight"]
    with torch.no_grad():
        model.classifier.weight.copy_(torch.tensor([[1.0, -2.0]]))
        model.classifier.bias.fill_(0.5)
    bags = torch.tensor([[[1.0, 0.0], [3.0, 1.0], [9.0, 9.0]]])
    output = model(bags, torch.tensor([[True, True, False]]))
    assert output.scores.item() == 2 - 2 * 0.5 + 0.5
    assert output.bag.tolist() == [[2.0, 0.5]] and torch.equal(output.instances, bags)


def test_clam_mb_has_two_branches_for_a_binary_task_and_one_per_class_else():
    for num_outputs, branches in ((1, 2), (2, 2), (3, 3)):
        model = build(ClamMBHead(kind="clam_mb", **WIDE), in_dim=5, num_outputs=num_outputs)
        assert model.pooling.score.weight.shape == (branches, 4)


def test_attention_heads_must_divide_the_width():
    with pytest.raises(ValidationError, match="num_heads 8 does not divide the width 12"):
        TransMILHead(kind="transmil", embed_dims=(64, 12))


@pytest.mark.parametrize(
    "head",
    [
        MeanHead(kind="mean", embed_dims=(8, 6)),
        LinearProbeHead(kind="linear_probe"),
        GatedAttentionHead(kind="gated_attention", **WIDE),
        ClamMBHead(kind="clam_mb", **WIDE),
        DSMILHead(kind="dsmil", embed_dims=(8, 6), query_dim=3),
        TransMILHead(kind="transmil", embed_dims=(8, 6), num_heads=2),
    ],
    ids=lambda head: head.kind,
)
def test_scores_start_where_they_are_told_to(head):
    torch.manual_seed(0)
    model = build(head, in_dim=5, num_outputs=3).eval()
    bags, mask = torch.randn(4, 7, 5), torch.ones(4, 7, dtype=torch.bool)
    before = model(bags, mask)
    model.start_at([1.0, -2.0, 0.5])
    after = model(bags, mask)
    expected = before.scores + torch.tensor([1.0, -2.0, 0.5])
    torch.testing.assert_close(after.scores, expected)
    torch.testing.assert_close(after.bag, before.bag)
