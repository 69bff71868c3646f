import math

import pytest
import torch

from training.losses.adversarial import Discriminator, reverse


def made(dims=(), *, num_groups=2, num_classes=0, width=2):
    torch.manual_seed(0)
    return Discriminator(width, dims, num_groups=num_groups, num_classes=num_classes).double()


def example(bags=8, width=2):
    draw = torch.Generator().manual_seed(1)
    group = torch.randint(-1, 3, (bags,), generator=draw)
    label = torch.randint(0, 3, (bags,), generator=draw)
    return torch.randn(bags, width, generator=draw).double(), group, label


def test_a_reversal_keeps_every_bit_and_turns_the_gradient():
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0)).exp().requires_grad_()
    turned = reverse(values)
    assert torch.equal(turned, values)
    turned.sum().backward()
    assert torch.equal(values.grad, -torch.ones(1000))


def test_the_loss_equals_the_value_by_hand():
    model = made()
    with torch.no_grad():
        model.out.weight.copy_(torch.tensor([[math.log(3), 0.0], [0.0, 0.0]], dtype=torch.float64))
        model.out.bias.zero_()
    bags = torch.tensor([[1.0, 5.0], [1.0, 7.0], [9.0, 9.0]]).double()
    # The first group has probability 3/4 in both bags that count.
    loss = model(bags, torch.tensor([0, 1, -1]), torch.zeros(3).long())
    assert loss.item() == pytest.approx((math.log(4 / 3) + math.log(4)) / 2, abs=1e-14)


def test_classes_shift_the_input_and_count_equally_by_hand():
    model = made(num_classes=2)
    with torch.no_grad():
        model.out.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
        model.out.bias.zero_()
        # Class 0 makes the first group's odds 1, class 1 makes them 3.
        model.classes.weight.copy_(
            torch.tensor([[-1.0, math.log(3) - 1], [0.0, 0.0]], dtype=torch.float64)
        )
    bags = torch.ones(4, 2).double()
    group, label = torch.tensor([0, 0, 0, 1]), torch.tensor([0, 0, 0, 1])
    loss = model(bags, group, label)
    assert loss.item() == pytest.approx((math.log(2) + math.log(4)) / 2, abs=1e-14)


@pytest.mark.parametrize("num_classes", [0, 3])
def test_the_model_gets_the_turned_gradient_and_the_discriminator_its_own(num_classes):
    bags, group, label = example()
    model = made((5, 4), num_groups=3, num_classes=num_classes)

    def plain(z):
        """The same, without the reversal and with a loop over bags."""
        rows = z if model.classes is None else z + model.classes.weight.T[label]
        for layer in model.hidden:
            rows = torch.relu(layer(rows))
        log_p = torch.log_softmax(model.out(rows), 1)
        kept = [i for i in range(len(z)) if group[i] >= 0]
        counts = [sum(int(label[j] == label[i]) for j in kept) for i in kept]
        shares = [1 / count if num_classes else 1.0 for count in counts]
        total = sum(-s * log_p[i, group[i]] for s, i in zip(shares, kept, strict=True))
        return total / sum(shares)

    bags.requires_grad_()
    loss, expected = model(bags, group, label), plain(bags)
    torch.testing.assert_close(loss, expected)
    parameters = list(model.parameters())
    found = torch.autograd.grad(loss, [bags, *parameters])
    wanted = torch.autograd.grad(expected, [bags, *parameters])
    torch.testing.assert_close(found[0], -wanted[0])
    torch.testing.assert_close(found[1:], wanted[1:])


def test_training_both_hides_the_group():
    """A discriminator alone learns the group; with a model behind the reversal it cannot."""
    draw = torch.Generator().manual_seed(0)
    group = torch.arange(64) % 2
    bags = torch.randn(64, 2, generator=draw).double()
    bags[:, 0] += 6.0 * group
    final = {}
    for learns in (False, True):
        torch.manual_seed(0)
        embedding = torch.nn.Linear(2, 2).double()
        model = made((8,))
        parameters = [*model.parameters(), *(embedding.parameters() if learns else [])]
        optimiser = torch.optim.AdamW(parameters, lr=0.02, weight_decay=0.1)
        for _ in range(400):
            optimiser.zero_grad()
            loss = model(embedding(bags), group, group)
            loss.backward()
            optimiser.step()
        final[learns] = loss.item()
    assert final[False] < 0.1 and final[True] > 0.5
