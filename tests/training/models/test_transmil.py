import torch
from torch import nn

from training.models import transmil
from training.models.transmil import SelfAttention, TransMILPooling


def test_self_attention_is_torchs_own():
    torch.manual_seed(0)
    layer = SelfAttention(6, 2).double()
    other = nn.MultiheadAttention(6, 2, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        other.in_proj_weight.copy_(layer.project.weight)
        other.in_proj_bias.zero_()
        other.out_proj.weight.copy_(layer.out.weight)
        other.out_proj.bias.copy_(layer.out.bias)
    tokens = torch.randn(3, 5, 6).double()
    mask = torch.arange(5) < torch.tensor([[5], [1], [3]])
    normed = layer.norm(tokens)
    expected, weights = other(
        normed, normed, normed, key_padding_mask=~mask, average_attn_weights=False
    )
    found, first = layer(tokens, mask, num_queries=5)
    torch.testing.assert_close(found, tokens + expected)
    torch.testing.assert_close(first, weights[:, :, 0])
    fewer, same = layer(tokens, mask, num_queries=2)
    torch.testing.assert_close(fewer, found[:, :2])
    torch.testing.assert_close(same, first)


def test_long_bags_are_attended_in_parts(monkeypatch):
    torch.manual_seed(0)
    layer = SelfAttention(4, 2).double()
    tokens, mask = torch.randn(2, 11, 4).double(), torch.ones(2, 11, dtype=torch.bool)
    whole, first = layer(tokens, mask, num_queries=11)
    monkeypatch.setattr(transmil, "QUERIES", 3)
    parts, same = layer(tokens, mask, num_queries=11)
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(same, first)


def test_the_second_layer_of_the_class_token_is_that_of_the_full_layer():
    torch.manual_seed(0)
    pooling = TransMILPooling(4, 2, position="ppeg").double()
    instances, mask = torch.randn(2, 6, 4).double(), torch.ones(2, 6, dtype=torch.bool)
    found, attention = pooling(instances, mask)
    tokens = torch.cat([pooling.token.expand(2, 1, -1), instances], dim=1)
    real = torch.ones(2, 7, dtype=torch.bool)
    tokens, _ = pooling.first(tokens, real, num_queries=7)
    tokens = torch.cat([tokens[:, :1], pooling.position(tokens[:, 1:], mask)], dim=1)
    tokens, weights = pooling.second(tokens, real, num_queries=7)
    torch.testing.assert_close(found, pooling.norm(tokens)[:, 0])
    mean = weights[:, :, 1:].mean(1)
    torch.testing.assert_close(attention, mean / mean.sum(1, keepdim=True))
