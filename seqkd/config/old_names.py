"""Names of version 0.1.0 in params.yaml and machine.yaml, which are refused with the new name."""

from collections.abc import Mapping

from seqkd.config.yaml_file import printable_key
from seqkd.utils.errors import InputError

OldNames = Mapping[str, Mapping[str, str]]  # section -> old name -> new name

# Earlier names of keys in params.yaml and machine.yaml, by section; "*" is any row of a table. The section decides:
# `text` is an old key of distill, `finetune` a new one of optim and prune.
_NETWORK = {"spread": "init_range", "embedding_spread": "embedding_init_range"}
_OPTIMIZER = {
    "method": "optimizer",
    "rate": "learning_rate",
    "batch": "batch_size",
    "clip": "max_grad_norm",
    "warmup": "warmup_steps",
    "halve_from": "start_decay_epoch",
    "keep": "keep_checkpoint",
    "loss_per": "loss_normalization",
    "shares": "shards",
}
PARAMS: OldNames = {
    "data": {"max_tokens": "max_length"},
    "teacher": _NETWORK,
    "student": _NETWORK,
    "optim": {"tune": "finetune"},
    "optim.*": _OPTIMIZER,
    "decode.*": {"normalise": "length_penalty"},
    "select.*": {"pick": "metric"},
    "distill.*": {"text": "train_text"},
    "finetune.*": {"text": "train_text", "init": "init_from"},
    "evaluate": {"normalise": "length_penalty"},
}
MACHINE: OldNames = {
    "": {
        "workers": "processes",
        "rows": "max_batch_hypotheses",
        "products": "matmul_backend",
        "save_every": "checkpoint_interval",
    }
}
# Earlier values, by key. schema._check_references checks the text `gold`, for a row of select may still be called so.
VALUES: OldNames = {"loss_normalization": {"word": "tokens", "sentence": "sentences"}}


def refuse(values: object, names: OldNames, *, where: str, path: tuple[str, ...] = ()) -> None:
    """Raise InputError, with the new name, for a key or value that has the name of an earlier version."""
    if not isinstance(values, dict) or len(path) > 2:  # no table has keys further down; an alias may lead in a circle
        return
    keys = names.get(".".join((*path[:1], *("*" for _ in path[1:]))), {})
    for key, value in values.items():
        inner = (*path, printable_key(key))
        new_value = VALUES.get(key, {}).get(value) if isinstance(value, str) else None
        if key in keys:
            raise InputError(f"{where}: {'.'.join(inner)} is now called {keys[key]}; rename it.")
        if new_value:
            raise InputError(f"{where}: {'.'.join(inner)}: {value} is now called {new_value}; rename it.")
        refuse(value, names, where=where, path=inner)
