"""grid: dvc repro with several stages at once; the same dvc.lock and bits as one after the other."""

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from seqkd.planning import grid, stage_graph
from seqkd.planning.grid import Grid
from seqkd.planning.stage_graph import Graph
from seqkd.utils.errors import InputError

Jobs = Annotated[int, typer.Option(min=1, max=1024, help="Stages at once; they share the machine's processes.")]
Replay = Annotated[
    Path | None,
    typer.Option(help="Run nothing: from this table of stages and seconds, print how long 1, 2, 4, 8 machines take."),
]
WRITES = str(grid.LOGS)


def main(*, jobs: Jobs = 2, replay: Replay = None) -> None:
    """Run all stages that have something to do, each as soon as its inputs are there.

    Where machine.yaml names a cluster, its workers train, one model each; --jobs is then their number.

    A stage that fails holds up only those that wait for it. Run the same command again to go on.
    """
    graph = stage_graph.read_dot(grid.run_dvc("dag", "--dot"))
    if replay:
        print(_replayed(graph, replay))
        return
    grid.LOGS.mkdir(parents=True, exist_ok=True)
    began, before = time.monotonic(), grid.recorded_before()
    stale = json.loads(grid.run_dvc("status", "--json"))
    work = Grid(graph, done=set(graph) - stage_graph.downstream(graph, stale), jobs=jobs)
    try:
        work.run()
    finally:
        work.stop()
    if work.failed:
        held_up = stage_graph.downstream(graph, work.failed) - set(work.failed)
        raise InputError(
            f"{'; '.join(f'{name} failed: {reason}' for name, reason in work.failed.items())} {len(held_up)} stages "
            f"wait for that; {grid.LOGS} has all that was printed. Mend it and run the same command again to go on."
        )
    grid.put_in_order(before)
    grid.BEFORE.unlink()
    spent, taken = sum(work.seconds.values()), time.monotonic() - began
    print(f"{len(work.seconds)} of {len(graph)} stages ran: {spent:,.0f} seconds of work in {taken:,.0f} seconds.")


def _replayed(graph: Graph, path: Path) -> str:
    """Return a table of how long the stages take on several machines. Raise InputError for a stage without a time."""
    times = grid.read_seconds(path)
    try:
        rows = [(each, stage_graph.replay(graph, times, each)) for each in (1, 2, 4, 8)]
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    lines = [f"{each:>8}  {seconds:>7,.0f}  {rows[0][1] / max(seconds, 1e-9):>6.2f}" for each, seconds in rows]
    return "\n".join(["machines  seconds  faster", *lines])
