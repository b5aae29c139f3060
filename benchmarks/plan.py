"""Does work take what seqkd plan says it will?

python -m benchmarks.plan

Small networks, made-up text, one process by the processor's clock: a training of each role and each search of decode,
as sampled and as whole pieces of work. Ends with 1 where one is more than 1.5 times the other.
"""

import random
import sys
import tempfile
import time
from pathlib import Path

import torch
from tabulate import tabulate

from seqkd import config, hardware, sample, search, trainer, vocab
from seqkd.batches import Text
from seqkd.config import Machine, Params
from seqkd.corpus import Pair
from seqkd.costs import ROLES, Costs, Kind, Role, listed
from seqkd.material import Material
from seqkd.model import Network, Shape
from seqkd.trainer import Lesson
from seqkd.vocab import EOS

MACHINE = Machine(workers=1, device="cpu")
PIECES = 400
FACTOR = 1.5
SIZES = {"teacher": "2x96", "student": "1x48"}


def material(folder: Path) -> Material:
    """1600 pairs of made-up words."""
    drawn = random.Random(1)
    words = ["".join(drawn.choices("abcdefghij", k=4)) for _ in range(300)]
    pairs = [Pair(at, *(" ".join(drawn.choices(words, k=3 + at % 13)) for _ in range(2))) for at in range(1600)]
    pieces = vocab.train([side for pair in pairs for side in pair[1:]], folder / "joint.model", size=PIECES)
    return Material(pairs, pieces, len(pairs), 50, 50, ())


def network(params: Params, role: Role) -> Network:
    settings: config.Network = getattr(params, role)
    made = Network(Shape(PIECES, settings.layers, settings.hidden, settings.dropout))
    made.start(torch.Generator().manual_seed(1))
    return made


def training(costs: Costs, params: Params, text: Text, role: Role) -> tuple[float, float]:
    """Processor seconds of two epochs: said, taken."""
    settings = getattr(params.optim, role).model_copy(update={"epochs": 2})
    hardware.settle(MACHINE, params.precision)
    began = time.process_time()
    lesson = Lesson(text, Text(text.sources[:1], text.targets[:1]), settings, 1)
    trainer.train(network(params, role), lesson, MACHINE)
    updates = 2 * -(-len(text.sources) // settings.batch)
    said = updates * costs.trainings[Kind(role, settings.batch, settings.method, False)].update
    return said, time.process_time() - began


def searching(costs: Costs, params: Params, text: Text, row: str) -> tuple[float, float]:
    """Of n-best lists whose hypotheses never end."""
    beam = params.decode[row].beam
    sources, teacher = text.sources[: 12_000 // beam], network(params, "teacher")
    with torch.no_grad():
        teacher.output_bias[EOS] = -sample.FAR
    hardware.settle(MACHINE, params.precision)
    began = time.process_time()
    search.decode(teacher, sources, beam=beam, nbest=beam)
    found = costs.searches[listed(params, MACHINE, row)]
    rows = beam * sum(search.longest(len(ids)) for ids in sources)
    return len(sources) * found.sentence + rows * found.row, time.process_time() - began


def main() -> int:
    params = config.params()
    networks = {role: getattr(params, role).model_copy(update={"size": size}) for role, size in SIZES.items()}
    params = params.model_copy(update=networks | {"vocab": config.Vocab(size=PIECES)})
    with tempfile.TemporaryDirectory() as folder:
        given = material(Path(folder))
        costs, text = sample.measure(given, params, MACHINE, clock=time.process_time), Text(*given.pieces())
    found = {f"train {role}": training(costs, params, text, role) for role in ROLES}
    found |= {f"decode {row}": searching(costs, params, text, row) for row in params.decode}
    rows = [(work, said, took, said / took) for work, (said, took) in found.items()]
    print(tabulate(rows, headers=["work", "said, s", "taken, s", "ratio"], floatfmt=".2f"))
    return int(any(not 1 / FACTOR < ratio < FACTOR for *_, ratio in rows))


if __name__ == "__main__":
    sys.exit(main())
