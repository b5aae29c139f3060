"""plan: how long a run of these settings will take here, and the disk and memory it needs."""

from pathlib import Path
from typing import Annotated

import typer

from seqkd.config import schema
from seqkd.planning import budget, forecast, material, sample
from seqkd.planning.forecast import Forecast

Pairs = Annotated[int | None, typer.Option(min=1, help="Training pairs to plan for, such as of a corpus to come.")]


def main(*, pairs: Pairs = None) -> None:
    """Measure a sample of every kind of work, and predict a whole dvc repro from it."""
    params, machine = schema.load_params(), schema.load_machine()
    found = material.gather(params, material.places(Path("dvc.yaml")), pairs=pairs)
    costs = sample.measure(found, params, machine)
    lines = list(Forecast(params, machine, costs, found.extent(), found.dev, found.test).lines())
    print(f"A whole run over {found.train:,} pairs, processes: {machine.processes}; its download comes on top.")
    print("\n".join([*found.notes, "", forecast.plain(lines), ""]))
    here, memory, disk = Path(), budget.free_memory(), budget.free_disk(Path())
    budget.require(forecast.need(lines, here), memory=memory, disk=disk)
    print(f"It fits: {budget.shown(disk)} of disk and {budget.shown(memory)} of memory are free.")
