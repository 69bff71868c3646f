import math

import torch

from training.models.dsmil import DSMIL


def test_the_critical_instance_and_the_bag_of_its_likeness_share_the_score():
    head = DSMIL(2, 4, 1)
    with torch.no_grad():
        head.instance.weight.copy_(torch.tensor([[1.0, 0.0]]))
        head.instance.bias.fill_(0.5)
        head.query.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]]))
        head.query.bias.zero_()
        head.value.weight.copy_(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
        head.classifier.weight.copy_(torch.tensor([[1.0, 10.0]]))
        head.classifier.bias.fill_(0.25)
    instances = torch.tensor([[[1.0, 1.0], [2.0, -1.0], [9.0, 9.0]]])
    scores, bag, attention = head(instances, torch.tensor([[True, True, False]]))
    # Critical: the second, of score 2.5. Likeness: (2 - 1) / 2 and (4 + 1) / 2.
    odds = math.exp(0.5), math.exp(2.5)
    u, v = (each / sum(odds) for each in odds)
    torch.testing.assert_close(attention, torch.tensor([[u, v, 0.0]]))
    torch.testing.assert_close(bag, torch.tensor([[u - v, u + 2 * v]]))
    expected = (2.5 + (u - v) + 10 * (u + 2 * v) + 0.25) / 2
    torch.testing.assert_close(scores, torch.tensor([[expected]]))


def test_each_class_has_its_critical_instance():
    head = DSMIL(2, 3, 2)
    with torch.no_grad():
        head.instance.weight.copy_(torch.eye(2))
        head.instance.bias.zero_()
        head.classifier.weight.zero_()
        head.classifier.bias.zero_()
    instances = torch.tensor([[[1.0, 5.0], [3.0, -1.0], [2.0, 2.0]]])
    scores, bag, _ = head(instances, torch.ones(1, 3, dtype=torch.bool))
    assert scores.tolist() == [[1.5, 2.5]] and bag.shape == (1, head.bag_width) == (1, 4)


def test_the_first_of_equally_critical_instances_gets_the_gradient():
    head = DSMIL(1, 1, 1)
    with torch.no_grad():
        head.classifier.weight.zero_()
    instances = torch.tensor([[[2.0], [2.0], [1.0]]], requires_grad=True)
    head.instance.weight.data.fill_(1.0)
    head(instances, torch.ones(1, 3, dtype=torch.bool))[0].sum().backward()
    assert instances.grad.flatten().tolist() == [0.5, 0.0, 0.0]
