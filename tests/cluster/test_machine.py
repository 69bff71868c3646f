from pathlib import Path

import pytest

from cluster import machine


def test_ray_finds_a_port_an_address_and_a_short_folder_here(tmp_path: Path) -> None:
    ground = machine.ray_ground()
    assert ground.port is not None
    assert ground.address.count(".") == 3
    assert ground.socket_chars <= machine.SOCKET_CHARS
    assert machine.ray_ground(tmp_path / ("long" * 20)).temporary_free_bytes is None
    assert machine.ray_ground(tmp_path / ("long" * 20)).socket_chars > machine.SOCKET_CHARS


def test_gpus_are_named_where_their_program_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.gpus() == []
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA A100, 81920 MiB'\necho 'NVIDIA A100, 81920 MiB'\n")
    program.chmod(0o755)
    assert machine.gpus() == ["NVIDIA A100, 81920 MiB"] * 2


def test_a_program_that_is_slow_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "quota"
    program.write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.ask(["quota"], timeout_s=0.1) == ""


def test_this_machine_has_a_name_and_memory() -> None:
    assert machine.host()
    assert machine.memory_bytes() > 1 << 28
