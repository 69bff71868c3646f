"""A request is tied to the weights that were found, so that all jobs take the same."""

import dataclasses
from pathlib import Path

from tests.training.extraction.made_up_slides import CONFIG, request
from training.extraction import requests, weights
from training.extraction.weights import Weights


def test_a_pinned_request_names_the_commits_of_the_hub_and_leaves_local_files_alone(
    tmp_path, monkeypatch
):
    def locate(encoder, checkpoint=None):
        return Weights(path=Path("w"), revision="local" if checkpoint else f"of {encoder.name}")

    monkeypatch.setattr(weights, "locate", locate)
    settings = {"uni": {"licence": "ours"}, "virchow2": {"checkpoint": "v.bin"}}
    config = CONFIG.model_validate({**CONFIG.model_dump(exclude_unset=True), "encoders": settings})
    asked = request(tmp_path / "s.csv", tmp_path / "data", encoders=(), config=config)
    asked = dataclasses.replace(
        asked, encoders=("uni", "virchow2", "hibou_l", "uni2_h"),
        checkpoints={"uni2_h": Path("u.bin")},
    )  # fmt: skip
    found = requests.pinned(asked).config.encoders
    assert (found["uni"].revision, found["uni"].licence) == ("of uni", "ours")
    assert found["virchow2"].revision == "" and "uni2_h" not in found
    assert found["hibou_l"].revision == "of hibou_l"
