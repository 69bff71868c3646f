import torch

from training.models.embedding import EmbeddingLayer, TileEmbedding, quantised


def test_it_is_linear_norm_leaky_relu():
    torch.manual_seed(0)
    layer = EmbeddingLayer(3, 4, norm="none", dropout=0.0)
    bags, mask = torch.randn(2, 5, 3), torch.ones(2, 5, dtype=torch.bool)
    expected = torch.nn.functional.leaky_relu(layer.linear(bags), 0.01)
    torch.testing.assert_close(layer(bags, mask, None), expected)


def test_layers_follow_each_other():
    embedding = TileEmbedding(3, (4, 6), norm="batch", dropout=0.1)
    found = embedding(torch.randn(2, 5, 3), torch.ones(2, 5, dtype=torch.bool), ())
    assert found.shape == (2, 5, 6) and embedding.width == 6


def test_dropout_is_rounded_but_never_drops_all():
    assert quantised(0.25) == 16384 and quantised(0.0) == 0
    assert quantised(0.9999999) == 65535
