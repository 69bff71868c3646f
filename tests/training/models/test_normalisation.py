import torch
from torch import nn

from training.models.normalisation import MaskedBatchNorm


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    bags = 3 + 2 * torch.randn(4, 6, 5, generator=generator, dtype=torch.float64)
    return bags, torch.arange(6) < torch.tensor([6, 2, 1, 4])[:, None]


def pair() -> tuple[MaskedBatchNorm, nn.BatchNorm1d]:
    ours, torchs = MaskedBatchNorm(5).double(), nn.BatchNorm1d(5).double()
    with torch.no_grad():
        for norm in (ours, torchs):
            norm.weight.copy_(torch.linspace(0.5, 2, 5))
            norm.bias.copy_(torch.linspace(-1, 1, 5))
    return ours, torchs


def test_it_equals_torchs_batch_norm_of_the_real_instances():
    ours, torchs = pair()
    bags, mask = batch()
    for _ in range(3):
        expected = torchs(bags[mask])
        torch.testing.assert_close(ours(bags, mask)[mask], expected)
    torch.testing.assert_close(ours.running_mean, torchs.running_mean)
    torch.testing.assert_close(ours.running_var, torchs.running_var)
    torch.testing.assert_close(ours.eval()(bags, mask)[mask], torchs.eval()(bags[mask]))


def test_gradients_equal_torchs():
    ours, torchs = pair()
    bags, mask = batch()
    found = []
    for norm, given in ((lambda x: ours(x, mask)[mask], bags), (torchs, bags[mask])):
        leaf = given.clone().requires_grad_()
        norm(leaf).pow(3).sum().backward()
        found.append(leaf.grad)
    torch.testing.assert_close(found[0][mask], found[1])
    assert not found[0][~mask].any()
    torch.testing.assert_close(ours.weight.grad, torchs.weight.grad)


def test_the_scale_multiplies():
    ours, _ = pair()
    bags, mask = batch()
    for mode in (True, False):
        ours.train(mode)
        torch.testing.assert_close(ours(bags, mask, 1.5), 1.5 * ours(bags, mask))


def test_one_instance_is_normalised_to_the_bias():
    ours, _ = pair()
    bags, mask = batch()
    mask = torch.zeros_like(mask).index_fill(0, torch.tensor([2]), True) & (torch.arange(6) == 0)
    torch.testing.assert_close(ours(bags, mask)[mask][0], ours.bias)
    assert ours.running_var.isfinite().all()
