import numpy as np
import pytest
import torch

from training.data.input_map import Erasure, InputMap, group_map

MEMBER = np.array([1, -1, 0])
SCALE, SHIFT = np.array([[2.0, 1], [1, 0.5]]), np.array([[1.0, 0], [0, -3]])


def erasure() -> Erasure:
    left = torch.tensor([[1.0], [1]], dtype=torch.float64)
    right = torch.tensor([[0.5, 0]], dtype=torch.float64)
    return Erasure(left=left, right=right, mean=torch.tensor([2.0, 7], dtype=torch.float64))


def scaling() -> InputMap:
    return group_map(("a", "b"), MEMBER, SCALE, SHIFT)


def bags() -> tuple[torch.Tensor, torch.Tensor]:
    mask = torch.tensor([[True, True], [True, False], [True, True]])
    values = torch.arange(12, dtype=torch.float64).view(3, 2, 2) * mask[..., None]
    return values, mask


def test_each_scan_moves_as_its_group_and_one_without_stays():
    values, mask = bags()
    found = scaling().apply(values.clone(), mask, np.array([2, 0, 1]))
    expected = [[[1, 1], [5, 3]], [[4, -0.5], [0, 0]], [[8, 9], [10, 11]]]
    assert found.tolist() == expected


def test_an_erasure_moves_all_alike():
    values, mask = bags()
    found = erasure().apply(values.clone(), mask, np.array([2, 0, 1]))
    # x - (1, 1) (x_0 - 2) / 2
    expected = [[[1, 2], [2, 3]], [[3, 4], [0, 0]], [[5, 6], [6, 7]]]
    assert found.tolist() == expected


@pytest.mark.parametrize("made", [scaling, erasure])
def test_padding_changes_no_bit(made):
    rng = torch.Generator().manual_seed(0)
    values = torch.randn(3, 5, 2, generator=rng)
    move, rows = made().to(torch.float32, torch.device("cpu")), np.array([0, 1, 2])
    alone = move.apply(values.clone(), torch.ones(3, 5, dtype=torch.bool), rows)
    padded = torch.cat([values, torch.zeros(3, 4, 2)], dim=1)
    mask = torch.arange(9).expand(3, 9) < 5
    found = move.apply(padded, mask, rows)
    assert torch.equal(found[:, :5], alone) and not found[:, 5:].any()
    assert found.dtype == torch.float32


def test_weights_name_what_is_needed_to_move_new_bags():
    found = scaling().weights()
    assert sorted(found) == ["input.scale.a", "input.scale.b", "input.shift.a", "input.shift.b"]
    assert found["input.scale.b"].tolist() == [1, 0.5]
    assert found["input.shift.b"].tolist() == [0, -3]
    kept = erasure().weights()
    assert sorted(kept) == ["input.left", "input.mean", "input.right"]
    assert kept["input.left"].shape == (2, 1) and kept["input.right"].shape == (1, 2)
