import torch
from torch import nn

from training.models.linear import per_instance


def test_it_is_the_layer_on_each_instance():
    torch.manual_seed(0)
    layer, instances = nn.Linear(3, 2), torch.randn(4, 5, 3)
    torch.testing.assert_close(per_instance(layer, instances), layer(instances))
