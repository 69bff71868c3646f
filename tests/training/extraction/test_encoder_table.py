"""The eight encoders are as published: sizes, widths, terms; built without memory."""

import pytest
import torch

from training.errors import DataError
from training.extraction import encoder_table, timm_models
from training.extraction.encoder_table import ENCODERS

PARAMETERS_M = {
    "uni": 303.4, "uni2_h": 681.4, "prov_gigapath": 1135.0, "virchow2": 631.2, "phikon_v2": 303.4,
    "hibou_l": 303.2, "h_optimus_0": 1134.8, "h_optimus_1": 1134.8,
}  # fmt: skip
DIMS = {
    "uni": 1024, "uni2_h": 1536, "prov_gigapath": 1536, "virchow2": 2560, "phikon_v2": 1024,
    "hibou_l": 1024, "h_optimus_0": 1536, "h_optimus_1": 1536,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ENCODERS, ids=lambda encoder: encoder.name)
def test_an_encoder_at_full_size_has_the_published_parameters_and_width(encoder):
    network = timm_models.build(encoder, device="meta")
    count = sum(each.numel() for each in network.parameters()) / 1e6
    assert count == pytest.approx(PARAMETERS_M[encoder.name], abs=0.05)
    tiles = torch.zeros(2, 3, encoder.input_px, encoder.input_px, device="meta")
    assert timm_models.pooled(network, encoder, tiles).shape == (2, DIMS[encoder.name])
    assert encoder.dim == DIMS[encoder.name]


def test_the_table_names_terms_and_a_page_of_every_encoder():
    assert [encoder.name for encoder in ENCODERS] == list(DIMS)
    for encoder in ENCODERS:
        assert encoder.licence and encoder.page.endswith(encoder.hub)
        assert encoder.mpp == 0.5 and encoder.input_px == 224
    restricted = [e.name for e in ENCODERS if e.licence == "CC-BY-NC-ND-4.0"]
    assert restricted == ["uni", "uni2_h", "virchow2", "h_optimus_1"]
    assert [e.name for e in ENCODERS if not e.gated] == ["phikon_v2"]


def test_any_model_of_timm_is_found_by_name_with_its_own_input():
    found = encoder_table.find("vit_tiny_patch16_224")
    assert (found.pooling, found.input_px, found.licence) == ("model", 224, "apache-2.0")
    assert found.hub.startswith("timm/")
    assert encoder_table.find("tf_efficientnet_lite0").mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("name", ["virchow3", "vit_tiny_patch16_224.nosuch", "", "no model"])
def test_a_name_that_is_no_encoder_is_refused_with_near_ones(name):
    with pytest.raises(DataError) as error:
        encoder_table.find(name)
    assert repr(name) in error.value.message
    assert "uni2_h" in error.value.hint
    if name == "virchow3":
        assert "did you mean virchow2" in error.value.message


def test_arithmetic_is_the_encoders_own_on_a_gpu_only():
    uni = encoder_table.find("uni")
    assert encoder_table.arithmetic(uni, "cuda:1") == "float16"
    assert encoder_table.arithmetic(uni, "cpu") == "float32"
    assert encoder_table.arithmetic(uni, "cpu", "bfloat16") == "bfloat16"
