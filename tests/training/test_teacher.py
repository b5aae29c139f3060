"""The targets of word-level KD: exact in full, the teacher's likeliest words and the rest in short, and their files."""

import os
from pathlib import Path

import pytest
import torch
from trainings import TEXT, network

from seqkd.data import batches
from seqkd.models import ensemble
from seqkd.models.interface import NetworkShape
from seqkd.training import teacher
from seqkd.training.data_parallel import DataParallelGroup
from seqkd.training.teacher import FullTargets, TopKCache, TopKTargets


def test_full_targets_from_the_store_are_the_teachers_own_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    net = network(dropout=0.5)
    group = DataParallelGroup(network(), 1)
    stored = FullTargets(net, TEXT, group)
    stored.precompute(group)
    monkeypatch.setattr(teacher, "MAX_STORE_BYTES", 0)
    anew = FullTargets(net, TEXT, group)
    anew.precompute(group)
    batch = batches.collate(TEXT, [7, 3, 50])
    tokens = sum(len(TEXT.targets[row]) + 1 for row in (7, 3, 50))
    assert stored.store is not None
    assert anew.store is None
    assert stored.targets(batch).shape == (tokens, 12)
    torch.testing.assert_close(stored.targets(batch), anew.targets(batch))
    with torch.no_grad():
        vectors = net(batch.source, batch.decoder_input)[batch.labels != 0]
        torch.testing.assert_close(stored.targets(batch), net.logits(vectors).softmax(-1))


def _top_4(folder: Path) -> TopKTargets:
    targets = TopKTargets(network(seed=3, dropout=0.0), TEXT, TopKCache(4, folder))
    targets.precompute(DataParallelGroup(network(), 1))
    return targets


def test_top_k_targets_hold_the_teachers_likeliest_words_and_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teacher, "LINES_PER_FILE", 40)  # three files; the batch is from all of them
    batch = batches.collate(TEXT, [7, 3, 50, 95])
    full = FullTargets(network(seed=3, dropout=0.0), TEXT, DataParallelGroup(network(), 1))
    full.precompute(DataParallelGroup(network(), 1))
    ids, probs = _top_4(tmp_path / "k").targets(batch)
    expected, expected_ids = full.targets(batch).topk(4)
    assert sorted(path.name for path in (tmp_path / "k").iterdir()) == ["00000000", "00000040", "00000080"]
    assert torch.equal(ids.long(), expected_ids)
    torch.testing.assert_close(probs[:, :4], expected, rtol=2e-3, atol=1e-6)  # half precision
    torch.testing.assert_close(probs.sum(-1), torch.ones(len(ids)))
    assert probs.shape == (sum(len(TEXT.targets[row]) + 1 for row in batch.rows), 5)


def test_top_k_file_that_exists_is_not_computed_again_and_a_missing_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teacher, "LINES_PER_FILE", 40)
    _top_4(tmp_path / "k")
    before = {path.name: path.stat().st_ino for path in (tmp_path / "k").iterdir()}
    (tmp_path / "k" / "00000040").rename(tmp_path / "aside")  # its inode is not free for the new one
    _top_4(tmp_path / "k")
    after = {path.name: path.stat().st_ino for path in (tmp_path / "k").iterdir()}
    assert after.keys() == before.keys()
    assert [name for name in sorted(before) if before[name] == after[name]] == ["00000000", "00000080"]


def test_top_k_folders_used_longest_ago_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher, "MAX_CACHED", 2)
    for name in ("a", "b"):
        _top_4(tmp_path / name)
        os.utime(tmp_path / name, (1, 1) if name == "a" else (2, 2))
    _top_4(tmp_path / "a")
    _top_4(tmp_path / "c")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "c"]


@pytest.mark.parametrize("bytes_kept", [0, 1 << 30])
def test_full_targets_of_an_ensemble_are_the_mean_of_its_members(
    bytes_kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teacher, "MAX_STORE_BYTES", bytes_kept)
    several = ensemble.make(NetworkShape(12, 2, 16, 0.2, 3))
    several.init_weights(torch.Generator().manual_seed(4), init_range=1.0)
    group = DataParallelGroup(network(), 1)
    targets = FullTargets(several, TEXT, group)
    targets.precompute(group)
    batch = batches.collate(TEXT, [7, 3, 50])
    with torch.no_grad():
        alone = [
            member.logits(member(batch.source, batch.decoder_input)[batch.labels != 0]).double().softmax(-1)
            for member in ensemble.members(several)
        ]
    found = targets.targets(batch)
    torch.testing.assert_close(found.double(), sum(alone[1:], alone[0]) / 3, rtol=1e-5, atol=1e-7)
    assert float((alone[0] - found).abs().max()) > 0.01
