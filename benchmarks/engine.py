"""Target words a second in training, and sentences a second in decoding, side by side in one run.

python benchmarks/engine.py train --sizes 2x64,2x256 --batch 64 --processes 1,2
python benchmarks/engine.py decode --models models/teacher,models/baseline --text data/text/gold.tsv --beams 1,5,35

Training is on random sentences of the lengths of image captions; what is learnt does not matter to the speed. Rounds
alternate over the variants, and the median counts, so that a busy neighbour slows all of them alike.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
import typer

from seqkd import checkpoint, config, corpus, hardware, model, search, trainer
from seqkd.batches import Text
from seqkd.trainer import Lesson

app = typer.Typer(add_completion=False)
Rounds = Annotated[int, typer.Option(help="How often each variant runs.")]
VOCAB = 4000


def alternate(variants: dict[str, Callable[[], float]], rounds: int) -> None:
    """Prints the median of each variant's rounds."""
    found: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, measure in variants.items():
            found[name].append(measure())
    for name, values in found.items():
        print(f"{name:40} {statistics.median(values):12,.1f}")


def sentences(count: int) -> Text:
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(5, 25, (count,), generator=generator).tolist()
    drawn = [torch.randint(4, VOCAB, (length,), generator=generator).tolist() for length in lengths]
    return Text(drawn, [ids[::-1] for ids in drawn])


def trained(size: str, batch: int, processes: int) -> float:
    """Target words a second of one epoch, the start of the processes included."""
    shape = config.Network(size=size, dropout=0.3)
    network = model.Network(model.Shape(VOCAB, shape.layers, shape.hidden, shape.dropout))
    network.start(torch.Generator().manual_seed(1))
    text = sentences(6400)
    settings = config.Optim(method="adam", rate=0.001, schedule="constant", epochs=1, batch=batch)
    lesson = Lesson(text, Text(text.sources[:64], text.targets[:64]), settings, seed=1, label=size)
    began = time.perf_counter()
    trainer.train(network, lesson, config.Machine(workers=processes))
    return text.tokens(range(len(text.targets))) / (time.perf_counter() - began)


@app.command()
def train(sizes: str = "2x64,2x256", batch: int = 64, processes: str = "1,2", rounds: Rounds = 3) -> None:
    """Target words a second."""
    variants: dict[str, Callable[[], float]] = {}
    for size in sizes.split(","):
        for count in map(int, processes.split(",")):
            for precision in ("fp32", "bf16"):

                def measure(size: str = size, count: int = count, precision: str = precision) -> float:
                    hardware.settle(config.Machine(), "bf16" if precision == "bf16" else "fp32")
                    return trained(size, batch, count)

                variants[f"{size}, batch {batch}, {count} processes, {precision}"] = measure
    alternate(variants, rounds)


@app.command()
def decode(models: str, text: Path, beams: str = "1,5,35", lines: int = 200, rounds: Rounds = 3) -> None:
    """Sentences a second of one process."""
    pairs = corpus.read(text)[:lines]
    variants: dict[str, Callable[[], float]] = {}
    for folder in map(Path, models.split(",")):
        network, vocab, _ = checkpoint.load(folder)
        sources = [vocab.encode(pair.source) for pair in pairs]
        for beam in map(int, beams.split(",")):
            for precision in ("fp32", "bf16"):

                def measure(
                    network: model.Network = network,
                    sources: list[list[int]] = sources,
                    beam: int = beam,
                    precision: str = precision,
                ) -> float:
                    hardware.settle(config.Machine(), "bf16" if precision == "bf16" else "fp32")
                    began = time.perf_counter()
                    search.decode(network, sources, beam=beam, nbest=beam)
                    return len(sources) / (time.perf_counter() - began)

                variants[f"{folder.name}, beam {beam}, {precision}"] = measure
    alternate(variants, rounds)


if __name__ == "__main__":
    app()
