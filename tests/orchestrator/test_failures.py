import errno
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import ClusterError
from orchestrator import failures
from orchestrator.errors import StoreError
from orchestrator.failures import POLICIES, Failure
from training.errors import DataError


def raised(error, cause=None):
    try:
        raise error from cause
    except type(error) as caught:
        return failures.classify(caught)


def failure(kind, signature=""):
    return Failure(kind=kind, message="m", signature=signature)


def decide(*kinds, lanes=8, **now):
    history = [kind if isinstance(kind, Failure) else failure(kind) for kind in kinds]
    now = {"size": "normal", "alone": False, "larger": False} | now
    return failures.decide(history, lanes=lanes, **now)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (DataError("scan A/1 has no tiles"), "data"),
        (MemoryError(), "host_memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "host_memory"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate "
                      "memory: you tried to allocate 4000000000000 bytes"), "host_memory"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a "
                                "total capacity of 79.25 GiB of which 4.56 MiB is free"),
         "gpu_memory"),
        (torch.AcceleratorError("CUDA error: out of memory"), "gpu_memory"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
         "gpu_memory"),
        (torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered"), "sick_gpu"),
        (RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable"), "sick_gpu"),
        (RuntimeError("CUDA error: no CUDA-capable device is detected"), "sick_gpu"),
        (RuntimeError("CUDA error: unspecified launch failure"), "sick_gpu"),
        (RuntimeError("CUDA error: initialization error"), "sick_gpu"),
        (RuntimeError("No CUDA GPUs are available"), "sick_gpu"),
        (RuntimeError("Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions "
                      "before calling NumCudaDevices() that might have already set an error? "
                      "Error 802: system not yet initialized"), "sick_gpu"),
        (RuntimeError("CUDA unknown error - this may be due to an incorrectly set up environment"),
         "sick_gpu"),
        (torch.AcceleratorError("CUDA error: an illegal memory access was encountered"), "bug"),
        (torch.AcceleratorError("CUDA error: device-side assert triggered"), "bug"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "disk"),
        (OSError(errno.ESTALE, "Stale file handle"), "disk"),
        (Exception("Error while serializing: I/O error: No space left on device (os error 28)"),
         "disk"),
        (FileNotFoundError(errno.ENOENT, "No such file"), "bug"),
        (ClusterError("no driver"), "bug"),
        (ZeroDivisionError("x"), "bug"),
    ],
)  # fmt: skip
def test_the_class_follows_from_the_exception(error, kind):
    assert raised(error).kind == kind


def test_a_torch_allocation_that_cannot_be_is_out_of_host_memory():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**46, dtype=torch.float64)
    assert failures.classify(caught.value).kind == "host_memory"


def test_a_full_disk_is_found_behind_other_errors():
    full = OSError(errno.ENOSPC, "No space left on device")
    assert raised(StoreError("segment not written"), full).kind == "disk"
    assert raised(DataError("shard cannot be read"), OSError(errno.EIO, "I/O error")).kind == "disk"
    assert raised(DataError("no such shard"), OSError(errno.ENOENT, "")).kind == "data"


def test_a_cuda_fault_ends_its_process_and_others_do_not():
    assert raised(RuntimeError("CUDA error: device-side assert triggered")).cuda
    assert not raised(torch.OutOfMemoryError("CUDA out of memory")).cuda
    assert not raised(DataError("scan 'CUDA error'")).cuda


def test_a_data_error_keeps_its_message_with_the_scan():
    assert raised(DataError("s.h5: view 'S1/AT2': no tiles")).message == (
        "s.h5: view 'S1/AT2': no tiles"
    )


def test_the_trace_ends_with_the_line_that_raised():
    found = raised(KeyError("missing"))
    assert found.message == "KeyError: 'missing'"
    assert "raise error" in found.trace and len(found.trace.splitlines()) <= 20


def test_signatures_tell_places_apart_and_not_messages():
    def here(text):
        return raised(ValueError(text)).signature

    def there(text):
        try:
            raise ValueError(text)
        except ValueError as caught:
            return failures.classify(caught).signature

    assert here("a") == here("b") != there("a") == there("b")


@pytest.mark.parametrize(
    ("history", "now", "action"),
    [
        (["gpu_memory"], {}, "smaller"),
        (["gpu_memory"], {"lanes": 3}, "smaller"),
        (["gpu_memory"], {"lanes": 2}, "again"),
        (["gpu_memory"] * 2, {"lanes": 2}, "give up"),
        (["gpu_memory"] * 2, {"lanes": 4}, "give up"),
        (["gpu_memory"], {"larger": True}, "large"),
        (["gpu_memory"] * 2, {"larger": True, "size": "large"}, "smaller"),
        (["gpu_memory"] * 3, {"lanes": 4, "larger": True, "size": "large"}, "give up"),
        (["gpu_memory"], {"lanes": 2, "larger": True}, "large"),
        (["gpu_memory"] * 2, {"lanes": 1, "larger": True, "size": "large"}, "give up"),
        (["host_memory"], {}, "alone"),
        (["host_memory"] * 2, {"alone": True, "larger": True}, "large"),
        (["host_memory"] * 2, {"alone": True}, "give up"),
        (["timeout"] * 9, {}, "again"),
        (["timeout"] * 10, {}, "give up"),
        (["preempted"] * 500, {}, "again"),
        (["pilot_cancelled"] * 500, {}, "again"),
        (["collateral"] * 500, {}, "again"),
        (["node_fail"] * 10, {}, "give up"),
        (["sick_gpu"] * 2, {}, "again"),
        (["sick_gpu"] * 3, {}, "give up"),
        (["disk"] * 2, {}, "again"),
        (["disk"] * 3, {}, "give up"),
        (["data"], {}, "give up"),
        (["lost", "preempted", "lost"], {}, "again"),
        (["lost"] * 3, {}, "give up"),
        ([failure("bug", "x"), failure("lost"), failure("bug", "x")], {}, "give up"),
        ([failure("bug", "x"), failure("bug", "y")], {}, "again"),
        ([failure("bug", name) for name in "xyz"], {}, "give up"),
        ([failure("bug", "x")], {"losses": 2}, "apart"),
        ([failure("bug", "x")] * 2, {"losses": 2}, "apart"),
        ([failure("bug", name) for name in "xyz"], {"losses": 3}, "apart"),
        ([failure("bug", "x")] * 3, {"losses": 1}, "give up"),
        (["data"], {"losses": 2}, "give up"),
        (["lost"] * 3, {"losses": 2}, "apart"),
        (["lost"] * 2, {"losses": 2}, "again"),
        (["gpu_memory"], {"losses": 2, "lanes": 2}, "again"),
        (["gpu_memory"] * 2, {"losses": 2, "lanes": 2}, "apart"),
        (["timeout"] * 10, {"losses": 2}, "give up"),
    ],
)
def test_what_becomes_of_a_pack_follows_from_its_failures(history, now, action):
    assert decide(*history, **now) == action


@given(
    st.sampled_from(sorted(POLICIES)), st.integers(1, 64), st.booleans(), st.booleans(),
)  # fmt: skip
def test_every_class_but_the_free_ones_ends(kind, lanes, alone, larger):
    size, history = "normal", []
    for _ in range(40):
        history.append(failure(kind, "same"))
        action = decide(*history, lanes=lanes, size=size, alone=alone, larger=larger)
        if action == "give up":
            return
        if action == "smaller":
            lanes //= 2
        alone, size = alone or action == "alone", "large" if action == "large" else size
    assert POLICIES[kind].attempts is None


@pytest.mark.parametrize(
    ("outcomes", "common"),
    [
        ([], ""), (["x", "x"], ""), (["x"] * 3, "x"), (["x"] * 3 + [""] * 3, "x"),
        (["x"] * 3 + [""] * 4, ""), (["x", "y", "z"] * 2, ""), ([""] * 50, ""),
    ],
)  # fmt: skip
def test_the_breaker_wants_three_alike_that_are_half_of_all(outcomes, common):
    assert failures.breaker(outcomes) == common


def test_the_table_names_what_resume_leaves_alone():
    assert set(failures.PERMANENT) == {"data", "numeric", "cancelled"}
    assert set(failures.COMMON) <= set(POLICIES)


def test_a_real_full_disk_is_named(tmp_path: Path):
    with pytest.raises(OSError) as caught, Path("/dev/full").open("wb", buffering=0) as file:
        file.write(b"x")
    assert failures.classify(caught.value).kind == "disk"
