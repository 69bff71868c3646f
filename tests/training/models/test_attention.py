import math

import torch

from training.models.attention import AttentionPooling


def test_it_is_the_softmax_of_the_scores():
    pooling = AttentionPooling(2, 1)
    with torch.no_grad():
        pooling.hidden.weight.copy_(torch.tensor([[1.0, 0.0]]))
        pooling.hidden.bias.fill_(0.5)
        pooling.score.weight.fill_(2.0)
    instances = torch.tensor([[[0.0, 1.0], [1.0, 3.0], [9.0, 9.0]]])
    bag, attention = pooling(instances, torch.tensor([[True, True, False]]))
    odds = math.exp(2 * math.tanh(0.5)), math.exp(2 * math.tanh(1.5))
    first = odds[0] / sum(odds)
    torch.testing.assert_close(attention, torch.tensor([[first, 1 - first, 0.0]]))
    torch.testing.assert_close(bag, torch.tensor([[1 - first, first + 3 * (1 - first)]]))
