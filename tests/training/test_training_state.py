"""Checkpoints: the newest intact one is read, and no more than two are kept."""

from pathlib import Path

import pytest
import torch

from seqkd.training import training_state
from seqkd.training.curve import Epoch
from seqkd.training.training_state import StateTensors, TrainingState


def _save(folder: Path, batches: int) -> Path:
    """Save the state after so many batches of the second epoch; return its file."""
    state = TrainingState(curve=[Epoch(1, 9, 0.1, 2.5, 9.75)], epoch_batches=batches)
    numbers, unused = torch.full((3,), float(batches)), torch.empty(0)
    tensors = StateTensors(numbers, unused, unused, unused, torch.zeros(2, 5, dtype=torch.uint8), unused)
    training_state.save(folder, state, tensors)
    return sorted(folder.iterdir())[-1]


def test_checkpoint_is_read_as_it_was_written_and_only_the_last_two_are_kept(tmp_path: Path) -> None:
    paths = [_save(tmp_path / "state", batches) for batches in (1, 2, 3)]
    assert sorted((tmp_path / "state").iterdir()) == paths[1:]
    newest = training_state.latest(tmp_path / "state")
    assert newest is not None
    assert newest[0] == TrainingState(curve=[Epoch(1, 9, 0.1, 2.5, 9.75)], epoch_batches=3)
    assert newest[1].weights.tolist() == [3.0, 3.0, 3.0]
    assert newest[1].dropout.shape == (2, 5)


def test_checkpoint_that_is_damaged_is_deleted_with_a_message_and_the_older_one_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, damaged = _save(tmp_path, 1), _save(tmp_path, 2)
    damaged.write_bytes(damaged.read_bytes()[:-1])
    older = training_state.latest(tmp_path)
    assert older is not None
    assert older[0].epoch_batches == 1
    assert not damaged.exists()
    assert capsys.readouterr().err.startswith(f"{damaged}: this checkpoint is damaged and was deleted")


def test_checkpoint_of_no_training_is_none(tmp_path: Path) -> None:
    assert training_state.latest(tmp_path / "absent") is None
