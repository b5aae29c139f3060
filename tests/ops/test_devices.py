"""The device that machine.yaml asks for, and what a run says of it."""

from collections.abc import Iterator
from typing import NamedTuple

import pytest
import torch

from seqkd.config.machine import Machine
from seqkd.ops import devices, matmul
from seqkd.ops.cpu import amx, target
from seqkd.utils.errors import InputError


@pytest.fixture(autouse=True)
def _default_backend() -> Iterator[None]:
    yield
    matmul.set_backend()


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_describe_names_what_computes_products(backend: matmul.Backend) -> None:
    names: dict[matmul.Backend, str] = {"auto": "seqkd's own loops", "torch": "torch"}
    device = devices.configure(Machine(device="cpu", matmul_backend=backend))
    assert devices.describe(device) == f"matrix products by {names[backend]}, float32"


PRECISIONS: tuple[matmul.Precision, ...] = ("fp32", "bf16")
BF16_SLOW = "precision bf16 gains little on this processor, and small networks lose a tenth of their speed by it"


class Processor(NamedTuple):
    """What a processor has, and what follows for bf16."""

    pairs: bool  # quick at products of pairs of bfloat16
    tiles: bool
    auto: matmul.Precision
    cost: str


@pytest.mark.parametrize(
    "processor",
    [
        Processor(pairs=True, tiles=False, auto="bf16", cost=""),
        Processor(pairs=False, tiles=True, auto="bf16", cost=""),
        Processor(pairs=False, tiles=False, auto="fp32", cost=BF16_SLOW),
    ],
)
def test_precision_auto_is_the_faster_one_and_bf16_says_what_it_costs(
    processor: Processor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target, "MULTIPLIES_PAIRS", processor.pairs)
    monkeypatch.setattr(amx, "usable", lambda kind: processor.tiles)
    cpu = Machine(device="cpu")
    assert devices.choose_precision(cpu, "auto") == processor.auto
    assert (devices.choose_precision(cpu, "bf16"), devices.choose_precision(cpu, "fp32")) == ("bf16", "fp32")
    assert (matmul.precision_cost("bf16"), matmul.precision_cost("fp32")) == (processor.cost, "")
    fp32, bf16 = (devices.describe(devices.configure(cpu, precision)) for precision in PRECISIONS)
    assert fp32 == "matrix products by seqkd's own loops, float32"
    assert bf16.partition("; ")[2] == processor.cost
    assert ("tiles (AMX)" in bf16) == processor.tiles


def test_precision_auto_is_bf16_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert devices.choose_precision(Machine(device="auto"), "auto") == "bf16"


def test_device_of_returns_the_gpu_if_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for available, expected in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda available=available: available)
        assert devices.device_of(Machine(device="auto")).type == expected
        assert devices.device_of(Machine(device="cpu")).type == "cpu"


def test_device_of_refuses_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for look in (devices.device_of, devices.configure):
        with pytest.raises(InputError, match="device is cuda, but torch finds no GPU; write cpu or auto"):
            look(Machine(device="cuda"))


def test_device_of_changes_no_setting() -> None:
    devices.configure(Machine(device="cpu"), "bf16")
    before = matmul.describe_backend()
    devices.device_of(Machine(device="cpu", matmul_backend="torch"))
    assert matmul.describe_backend() == before


def test_of_workers_tells_a_cluster_the_device_of_this_machine() -> None:
    own = "cuda" if torch.cuda.is_available() else "cpu"
    alone, shared = Machine(processes=3), Machine(processes=3, cluster="tcp://host:8786")
    assert devices.of_workers(alone) is alone
    assert devices.of_workers(shared) == Machine(processes=1).model_copy(update={"device": own})
    assert devices.of_workers(shared.model_copy(update={"mixed": True})).device == "auto"
