import math

import torch

from training.models.clam import ClamMB

INSTANCES = torch.tensor([[[0.0, 1.0], [1.0, 3.0], [9.0, 9.0]]])
MASK = torch.tensor([[True, True, False]])


def made(num_outputs: int) -> ClamMB:
    """One hidden unit: tanh of the first coordinate, gate half open; scores 2, -1, 0."""
    head = ClamMB(2, 1, num_outputs)
    branches = head.score.out_features
    with torch.no_grad():
        head.hidden.weight.copy_(torch.tensor([[1.0, 0.0]]))
        head.gate.weight.zero_()
        head.hidden.bias.zero_()
        head.gate.bias.zero_()
        head.score.weight.copy_(torch.tensor([[2.0], [-1.0], [0.0]])[:branches])
        head.classifier.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])[:branches])
        head.classifier.bias.copy_(torch.tensor([0.1, 0.2, 0.3])[:branches])
    return head


def second_weight(score: float) -> float:
    """Weight of the second of two instances; the first one's attention score is 0."""
    odds = math.exp(score * math.tanh(1.0) / 2)
    return odds / (1 + odds)


def test_each_class_has_its_attention_and_its_classifier():
    scores, bag, attention = made(3)(INSTANCES, MASK)
    a, b, c = second_weight(2), second_weight(-1), 0.5
    torch.testing.assert_close(bag, torch.tensor([[a, 1 + 2 * a, b, 1 + 2 * b, c, 1 + 2 * c]]))
    torch.testing.assert_close(scores, torch.tensor([[a + 0.1, 1 + 2 * b + 0.2, 1 + 3 * c + 0.3]]))
    mean = (a + b + c) / 3
    torch.testing.assert_close(attention.mean(1), torch.tensor([[1 - mean, mean, 0.0]]))
    torch.testing.assert_close(attention[0, :, 1], torch.tensor([a, b, c]))


def test_a_binary_score_is_the_log_odds_of_the_two_branches():
    head = made(1)
    scores, bag, _ = head(INSTANCES, MASK)
    a, b = second_weight(2), second_weight(-1)
    torch.testing.assert_close(scores, torch.tensor([[1 + 2 * b + 0.2 - a - 0.1]]))
    assert bag.shape == (1, head.bag_width) == (1, 4)
