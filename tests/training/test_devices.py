import os
import subprocess
import sys

import pytest
import torch

from training import devices
from training.errors import DataError

CUDA = torch.device("cuda")
ASKED = """
import torch
from training import devices
print(torch.get_float32_matmul_precision())
devices.prepare(torch.device("cuda"), "float32")
print(torch.get_float32_matmul_precision(), torch.backends.cuda.matmul.allow_tf32)
print(torch.backends.cudnn.allow_tf32)
"""


def test_float32_is_float32_whatever_the_environment_asks_for():
    said = subprocess.run(
        [sys.executable, "-c", ASKED], capture_output=True, text=True, check=True,
        env={**os.environ, "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1"},
    ).stdout  # fmt: skip
    assert said.splitlines() == ["high", "highest False", "False"]


def test_bfloat16_is_refused_on_a_gpu_without_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    with pytest.raises(DataError, match="bfloat16") as caught:
        devices.prepare(CUDA, "bfloat16")
    assert "float16" in caught.value.hint
    devices.prepare(torch.device("cpu"), "bfloat16")


def test_a_device_has_a_name_where_there_is_no_gpu():
    assert devices.name("cpu") == "cpu"
    assert devices.name("cuda")
    devices.leave(0.5)
