"""Simple upper bounds of memory and disk, and the refusal of what cannot fit."""

from torch import nn

from seqkd.config.schema import Machine, NetworkSettings
from seqkd.models.lstm import LSTMNetwork
from seqkd.planning import budget
from seqkd.training.trainer import TrainingJob


def require_network(name: str, settings: NetworkSettings, vocab_size: int) -> None:
    """Raise InputError where the weights of a network do not fit into memory."""
    budget.require(budget.weights(f"A network of {settings.size}", settings, vocab_size))


def require_training(job: TrainingJob, network: nn.Module, machine: Machine) -> None:
    """Raise InputError where a training does not fit into memory, or its state and model not on the disk."""
    assert isinstance(network, LSTMNetwork)
    assert job.resume is not None
    on_cpu = network.output.device.type == "cpu"
    estimate = budget.course(
        job.label,
        network.shape,
        job.settings,
        budget.CorpusStats.of(*job.text),
        vocab=network.shape.vocab,
        processes=budget.processes(job.settings, machine) if on_cpu else 0,
        teacher=job.teacher.shape if job.teacher else None,
        keeping=job.resume,
    )
    budget.require(estimate)
