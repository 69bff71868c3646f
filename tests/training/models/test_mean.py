import torch

from training.models.mean import MeanPooling


def test_it_averages_the_real_instances():
    instances = torch.tensor([[[1.0], [3.0], [90.0]], [[1.0], [2.0], [6.0]]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    bag, attention = MeanPooling()(instances, mask)
    torch.testing.assert_close(bag, torch.tensor([[2.0], [3.0]]))
    torch.testing.assert_close(attention[0], torch.tensor([0.5, 0.5, 0.0]))
