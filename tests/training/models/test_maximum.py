import torch

from training.models.maximum import MaxPooling


def test_it_takes_the_largest_of_the_real_instances_per_unit():
    instances = torch.tensor([[[1.0, -5.0], [3.0, -7.0], [90.0, 90.0]]])
    bag, attention = MaxPooling()(instances, torch.tensor([[True, True, False]]))
    assert torch.equal(bag, torch.tensor([[3.0, -5.0]]))
    assert torch.equal(attention, torch.tensor([[0.5, 0.5, 0.0]]))


def test_the_gradient_goes_to_the_holder_alone():
    instances = torch.tensor([[[1.0], [3.0]]], requires_grad=True)
    MaxPooling()(instances, torch.tensor([[True, True]]))[0].sum().backward()
    assert torch.equal(instances.grad, torch.tensor([[[0.0], [1.0]]]))
