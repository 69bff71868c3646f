import torch

from training.models.weighting import softmax_over_real, weigh


def test_padding_gets_no_weight_and_no_gradient():
    scores = torch.tensor([[1.0, 1.0, 50.0]], requires_grad=True)
    attention = softmax_over_real(scores, torch.tensor([[True, True, False]]))
    assert torch.equal(attention, torch.tensor([[0.5, 0.5, 0.0]]))
    attention[0, 0].backward()
    assert scores.grad is not None and scores.grad[0, 2] == 0 and scores.grad.isfinite().all()


def test_weigh_sums():
    instances = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    assert torch.equal(weigh(instances, torch.tensor([[0.5, 1.0]])), torch.tensor([[3.5, 5.0]]))
