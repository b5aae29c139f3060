"""The sentences that stand for what the system refused."""

import errno

import pytest

from seqkd.utils import errors

REFUSED = [
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
]


@pytest.mark.parametrize("error", REFUSED, ids=ascii)
def test_describe_system_error_says_that_memory_ran_out(error: Exception) -> None:
    assert str(errors.describe_system_error(error)).startswith("memory ran out; ")


def test_describe_system_error_leaves_a_fault_of_the_code_alone() -> None:
    assert errors.describe_system_error(RuntimeError("shapes cannot be multiplied")) is None
    full = OSError(errno.ENOSPC, "No space left on device", "file")
    assert errors.describe_system_error(full) == errors.describe_os_error(full)
