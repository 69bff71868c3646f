import math

import torch

from training.models.gated_attention import GatedAttentionPooling


def test_the_gate_multiplies_the_hidden_units():
    pooling = GatedAttentionPooling(2, 1)
    with torch.no_grad():
        pooling.hidden.weight.copy_(torch.tensor([[1.0, 0.0]]))
        pooling.hidden.bias.fill_(0.5)
        pooling.gate.weight.copy_(torch.tensor([[0.0, 1.0]]))
        pooling.gate.bias.fill_(-1.0)
        pooling.score.weight.fill_(2.0)
    instances = torch.tensor([[[0.0, 1.0], [1.0, 3.0], [9.0, 9.0]]])
    _, attention = pooling(instances, torch.tensor([[True, True, False]]))
    gates = 1 / (1 + math.exp(0)), 1 / (1 + math.exp(-2))
    odds = math.exp(2 * math.tanh(0.5) * gates[0]), math.exp(2 * math.tanh(1.5) * gates[1])
    first = odds[0] / sum(odds)
    torch.testing.assert_close(attention, torch.tensor([[first, 1 - first, 0.0]]))
