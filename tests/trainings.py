"""A small copying task, a network and settings to train it with, shared by the tests of training."""

import torch
from torch import Tensor

from seqkd.config.schema import OptimizerSettings
from seqkd.data.batches import TokenizedCorpus
from seqkd.models import lstm
from seqkd.models.interface import Network
from seqkd.training.trainer import TrainingJob

SENTENCES = [
    torch.randint(4, 12, (3 + index % 3,), generator=torch.Generator().manual_seed(index)).tolist()
    for index in range(96)
]
TEXT = TokenizedCorpus(SENTENCES, SENTENCES)  # the task: copy the source
DEV = TokenizedCorpus(TEXT.sources[:16], TEXT.targets[:16])
SETTINGS = OptimizerSettings(
    optimizer="adam", learning_rate=0.01, schedule="cosine", epochs=3, batch_size=16, warmup_steps=2
)


def network(seed: int = 1, dropout: float = 0.2) -> lstm.LSTMNetwork:
    made = lstm.LSTMNetwork(lstm.NetworkShape(12, 2, 16, dropout))
    made.init_weights(torch.Generator().manual_seed(seed))
    return made


def flat(net: Network) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in net.parameters()])


def job(**other: object) -> TrainingJob:
    return TrainingJob(**{"text": TEXT, "dev": DEV, "settings": SETTINGS, "seed": 5, **other})  # type: ignore[arg-type]


def settings(**other: object) -> OptimizerSettings:
    return OptimizerSettings.model_validate(SETTINGS.model_dump() | other)
