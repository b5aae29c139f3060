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

from seqkd.config import schema
from seqkd.config.schema import Machine, Params
from seqkd.data import vocab
from seqkd.data.batches import TokenizedCorpus
from seqkd.data.bitext import Pair
from seqkd.data.vocab import EOS
from seqkd.decoding import beam_search
from seqkd.models.lstm import LSTMNetwork, NetworkShape
from seqkd.ops import devices
from seqkd.planning import sample
from seqkd.planning.costs import ROLES, Costs, Role, TrainingKind, listed
from seqkd.planning.material import CorpusSample
from seqkd.training import trainer
from seqkd.training.trainer import TrainingJob

MACHINE = Machine(processes=1, device="cpu")
PIECES = 400
FACTOR = 1.5
SIZES = {"teacher": "2x96", "student": "1x48"}


def material(folder: Path) -> CorpusSample:
    """1600 pairs of made-up words."""
    drawn = random.Random(1)
    words = ["".join(drawn.choices("abcdefghij", k=4)) for _ in range(300)]
    pairs = [Pair(at, *(" ".join(drawn.choices(words, k=3 + at % 13)) for _ in range(2))) for at in range(1600)]
    pieces = vocab.train([side for pair in pairs for side in pair[1:]], folder / "joint.model", size=PIECES)
    return CorpusSample(pairs, pieces, len(pairs), 50, 50, ())


def network(params: Params, role: Role) -> LSTMNetwork:
    settings: schema.NetworkSettings = getattr(params, role)
    made = LSTMNetwork(NetworkShape(PIECES, settings.layers, settings.hidden, settings.dropout))
    made.init_weights(torch.Generator().manual_seed(1))
    return made


def training(costs: Costs, params: Params, text: TokenizedCorpus, role: Role) -> tuple[float, float]:
    """Processor seconds of two epochs: said, taken."""
    settings = getattr(params.optim, role).model_copy(update={"epochs": 2})
    devices.configure(MACHINE, params.precision)
    began = time.process_time()
    lesson = TrainingJob(text, TokenizedCorpus(text.sources[:1], text.targets[:1]), settings, 1)
    trainer.train(network(params, role), lesson, MACHINE)
    updates = 2 * -(-len(text.sources) // settings.batch_size)
    said = updates * costs.trainings[TrainingKind(role, settings.batch_size, settings.optimizer, False)].update
    return said, time.process_time() - began


def searching(costs: Costs, params: Params, text: TokenizedCorpus, row: str) -> tuple[float, float]:
    """Of n-best lists whose hypotheses never end."""
    beam = params.decode[row].beam
    sources, teacher = text.sources[: 12_000 // beam], network(params, "teacher")
    with torch.no_grad():
        teacher.output_bias[EOS] = -sample.FAR
    devices.configure(MACHINE, params.precision)
    began = time.process_time()
    beam_search.decode(teacher, sources, beam=beam, nbest=beam)
    found = costs.searches[listed(params, MACHINE, row)]
    rows = beam * sum(beam_search.max_length(len(ids)) for ids in sources)
    return len(sources) * found.sentence + rows * found.row, time.process_time() - began


def main() -> int:
    params = schema.load_params()
    networks = {role: getattr(params, role).model_copy(update={"size": size}) for role, size in SIZES.items()}
    params = params.model_copy(update=networks | {"vocab": schema.VocabSettings(size=PIECES)})
    with tempfile.TemporaryDirectory() as folder:
        given = material(Path(folder))
        costs, text = sample.measure(given, params, MACHINE, clock=time.process_time), TokenizedCorpus(*given.pieces())
    found = {f"train {role}": training(costs, params, text, role) for role in ROLES}
    found |= {f"decode {row}": searching(costs, params, text, row) for row in params.decode}
    rows = [(work, said, took, said / took) for work, (said, took) in found.items()]
    print(tabulate(rows, headers=["work", "said, s", "taken, s", "ratio"], floatfmt=".2f"))
    return int(any(not 1 / FACTOR < ratio < FACTOR for *_, ratio in rows))


if __name__ == "__main__":
    sys.exit(main())
