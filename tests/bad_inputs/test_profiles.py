"""Profiles that are refused before SLURM hears of the sweep: file and key are named."""

from pathlib import Path

import pytest

from tests.bad_inputs import command, inputs

SLURM = "kind: slurm\npartition: gpu\ngpus: 1\n"

FILES = {
    "empty": (b"", "profile"),
    "a list": (b"[1]\n", "profile"),
    "open bracket": (b"kind: [", "not readable as YAML"),
    "tabs": (b"kind: slurm\ndriver:\n\tcpus: 2\n", "not readable as YAML"),
    "binary": (bytes(range(128, 256)), "not readable as YAML"),
    "nul byte": (b"kind: lo\0cal\n", "not readable as YAML"),
    "a tag": (b"kind: !!python/object/apply:os.system [ls]\n", "not readable as YAML"),
    "no kind": (b"partition: gpu\n", "kind"),
    "an unknown kind": (b"kind: pbs\n", "pbs"),
    "a key misspelt": (SLURM.encode() + b"walltim_min: 5\n", "did you mean walltime_min?"),
    "a key of the driver": (SLURM.encode() + b"driver: {cpu: 1}\n", "did you mean cpus?"),
    "walltime zero": (SLURM.encode() + b"walltime_min: 0\n", "walltime_min"),
    "walltime as a time": (SLURM.encode() + b"walltime_min: '6 h'\n", "walltime_min"),
    "walltime NaN": (SLURM.encode() + b"walltime_min: .nan\n", "walltime_min"),
    "workers zero": (SLURM.encode() + b"workers: 0\n", "workers"),
    "local workers zero": (b"kind: local\nworkers: 0\n", "workers"),
    "negative GPUs": (SLURM.encode() + b"gpus: -1\n", "gpus"),
    "no pilots": (SLURM.encode() + b"pilots: 0\n", "pilots"),
    "10^6 pilots": (SLURM.encode() + b"pilots: 1000000\n", "pilots"),
    "memory zero": (SLURM.encode() + b"memory_gb: 0\n", "memory_gb"),
    "memory infinite": (SLURM.encode() + b"memory_gb: .inf\n", "memory_gb"),
    "an unknown device": (SLURM.encode() + b"device: gpu\n", "device"),
    "lanes zero": (SLURM.encode() + b"lanes_max: 0\n", "lanes_max"),
    "set-up with a newline": (SLURM.encode() + b'setup: ["module load a\\nrm x"]\n', "setup"),
    "set-up as text": (SLURM.encode() + b"setup: module load cuda\n", "setup"),
    "a partition with a newline": (SLURM.encode() + b'account: "a\\nb"\n', "account"),
    "an option that is none": (SLURM.encode() + b'sbatch: {"a b": 1}\n', "sbatch"),
    "an option with a newline": (SLURM.encode() + b'sbatch: {comment: "a\\nb"}\n', "sbatch"),
}


@pytest.mark.parametrize(("content", "says"), FILES.values(), ids=FILES)
def test_a_wrong_profile_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    spec, profile = inputs.write_spec(tmp_path), tmp_path / "site.yaml"
    profile.write_bytes(content)
    command.refused(
        tmp_path, "launch", spec, "--cluster", profile, "--results", tmp_path / "results", "--yes",
        code=command.SPEC_ERROR, says=["site.yaml", says],
    )  # fmt: skip


@pytest.mark.parametrize("name", ["nope", "../../x", "./nope.yaml", "a\nb", ""])
def test_a_profile_that_does_not_exist_is_named(tmp_path: Path, name: str) -> None:
    spec = inputs.write_spec(tmp_path)
    command.refused(
        tmp_path, "launch", spec, f"--cluster={name}", "--results", tmp_path / "results",
        code=command.SPEC_ERROR, says=[],
    )  # fmt: skip


def test_every_problem_of_a_profile_is_in_one_message(tmp_path: Path) -> None:
    spec, profile = inputs.write_spec(tmp_path), tmp_path / "site.yaml"
    profile.write_text(SLURM + "walltime_min: 0\nworkers: 0\nfoo: 1\n")
    command.refused(
        tmp_path, "launch", spec, "--cluster", profile, "--results", tmp_path / "results",
        code=command.SPEC_ERROR, says=["walltime_min", "workers", "foo: unknown key"],
    )  # fmt: skip


def test_a_folder_and_a_dangling_link_are_no_profiles(tmp_path: Path) -> None:
    spec = inputs.write_spec(tmp_path)
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "link.yaml").symlink_to("nowhere")
    for name in ("folder.yaml", "link.yaml"):
        command.refused(
            tmp_path, "launch", spec, "--cluster", tmp_path / name, "--results", tmp_path / "r",
            code=command.SPEC_ERROR, says=[name],
        )  # fmt: skip


def test_a_profile_with_a_long_name_does_not_exist(tmp_path: Path) -> None:
    spec = inputs.write_spec(tmp_path)
    command.refused(
        tmp_path, "launch", spec, f"--cluster={'x' * 5000}", "--results", tmp_path / "results",
        code=command.SPEC_ERROR, says=["profile"],
    )  # fmt: skip
