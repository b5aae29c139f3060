"""The pipeline's stages, which one waits for which, and how long they take on several machines.

The grid of methods is many trainings that wait for little but their start. `seqkd grid` runs the stages and `replay`
predicts their time by one rule: of those whose inputs are there, the one with the longest chain behind it goes first.
"""

import re
from collections.abc import Iterable, Mapping

from seqkd.utils.errors import InputError

Graph = dict[str, set[str]]  # stage -> those that it waits for, in the order of dvc.yaml


def read_dot(text: str) -> Graph:
    """Return the graph that `dvc dag --dot` prints."""
    graph: Graph = {name: set() for name in re.findall(r'^"([^"]+)";', text, re.MULTILINE)}
    for before, after in re.findall(r'^"([^"]+)" -> "([^"]+)";', text, re.MULTILINE):
        graph[after].add(before)
    return graph


def downstream(graph: Graph, stages: Iterable[str]) -> set[str]:
    """Return stages and all that wait for them, directly or not."""
    found, new = set[str](), set(stages)
    while new:
        found |= new
        new = {name for name, before in graph.items() if before & new} - found
    return found


def chains(graph: Graph, seconds: Mapping[str, float]) -> dict[str, float]:
    """Return the time of the longest chain that begins with each stage. Stages without seconds count 1."""
    found: dict[str, float] = {}

    def measure(name: str) -> float:
        if name not in found:
            behind = [measure(other) for other, before in graph.items() if name in before]
            found[name] = seconds.get(name, 1.0) + max(behind, default=0.0)
        return found[name]

    for name in graph:
        measure(name)
    return found


def ready(graph: Graph, done: set[str], *, begun: set[str], order: Mapping[str, float]) -> list[str]:
    """Return the stages that wait for nothing any more and have not begun, the longest chain first."""
    free = [name for name, before in graph.items() if name not in begun and before <= done]
    return sorted(free, key=lambda name: -order[name])


def replay(graph: Graph, seconds: Mapping[str, float], machines: int) -> float:
    """Return how many seconds all stages take on so many machines, one stage a machine at a time.

    Raise InputError where a stage has no time.
    """
    if missing := [name for name in graph if name not in seconds]:
        raise InputError(f"there is no time of the stage {missing[0]}; give one for each stage that dvc dag lists.")
    order, done, running, now = chains(graph, seconds), set[str](), dict[str, float](), 0.0
    while len(done) < len(graph):
        free = ready(graph, done, begun=done | set(running), order=order)
        running |= {name: now + seconds[name] for name in free[: machines - len(running)]}
        now = min(running.values())
        ended = {name for name, end in running.items() if end <= now}
        running = {name: end for name, end in running.items() if name not in ended}
        done |= ended
    return now
