"""Word-KD with an external teacher: its distribution is stored once, by file, and trainings read it."""

import json
from pathlib import Path

import marian
import pytest
import torch
from source_tree import ROOT
from trainings import network

from seqkd.config import load
from seqkd.config.machine import Machine
from seqkd.config.schema import DistillSettings, NetworkSettings, Params, VocabSettings
from seqkd.config.teachers import TransformersTeacher, WordTeacher
from seqkd.data import batches, bitext
from seqkd.data.bitext import Pair
from seqkd.data.vocab import Vocab
from seqkd.models import checkpoint, forced_decoding
from seqkd.models.checkpoint import Model
from seqkd.teachers import vocabulary
from seqkd.training import external_teacher, run, teacher
from seqkd.training.data_parallel import DataParallelGroup
from seqkd.training.run import TrainingRun
from seqkd.training.teacher import TopKCache, TopKTargets
from seqkd.utils.errors import InputError

pytestmark = pytest.mark.slow
pytest.importorskip("transformers", reason="needs seqkd[transformers]")

PAIRS = [
    Pair(3 * number, f"house {number} is {'re' * (number % 5)}d", f"Haus {number} ist rot") for number in range(30)
]
LONG, EMPTY = Pair(1, "house " * 50, "Haus"), Pair(2, "house", "")
ONE = Machine(processes=1, device="cpu")
MAX_LENGTH, K = 40, 5


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("marian")
    marian.make(folder, [side for pair in PAIRS for side in pair[1:]])
    return folder


@pytest.fixture
def words(made: Path) -> WordTeacher:
    return WordTeacher("opus", TransformersTeacher(kind="transformers", model=str(made)))


@pytest.fixture
def vocab(words: WordTeacher) -> Vocab:
    try:
        return vocabulary.of_teacher("opus", words.settings, VocabSettings(size=16))
    except InputError as error:
        size = int(str(error).rstrip(".").rpartition(" ")[2])
    return vocabulary.of_teacher("opus", words.settings, VocabSettings(size=size))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vocab: Vocab) -> Path:
    """A working folder with a text, a development set, and the folder of a teacher that is not trained."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(teacher, "LINES_PER_FILE", 12)
    monkeypatch.setattr(external_teacher, "LINES_PER_FILE", 12)
    bitext.write(tmp_path / "text/reference.tsv", sorted([*PAIRS, LONG, EMPTY]))
    bitext.write(tmp_path / "corpus/dev.tsv", PAIRS[:5])
    (tmp_path / "corpus/about.json").write_text(json.dumps({"corpus": "houses", "source": "en", "target": "de"}))
    checkpoint.save_vocab(tmp_path / "models/teacher", vocab, reason="opus teaches instead")
    return tmp_path


@pytest.fixture
def params() -> Params:
    whole = load.params(ROOT / "params.yaml")
    student = whole.optim.student.model_copy(update={"epochs": 2, "batch_size": 16})
    data = whole.data.model_copy(update={"max_length": MAX_LENGTH})
    return whole.model_copy(update={"data": data, "optim": whole.optim.model_copy(update={"student": student})})


def model(vocab: Vocab) -> Model:
    return run.init_model(vocab, NetworkSettings(size="1x8", dropout=0.1), seed=1, device=torch.device("cpu"))


def spec(words: WordTeacher | None) -> TrainingRun:
    row, paths = DistillSettings(train_text="reference", alpha=0.5, top_k=K), {"corpus": Path("corpus")}
    paths |= {"texts": Path("text"), "teacher": Path("models/teacher")}
    return TrainingRun.of_row("words", row, words, optim="student", init_from=run.RANDOM, **paths)


def key(words: WordTeacher, vocab: Vocab, *, top_k: int = K, max_length: int = MAX_LENGTH) -> Path:
    text = Path("text/reference.tsv")
    return external_teacher.cache(words.settings, vocab, text, top_k=top_k, max_length=max_length).folder


def test_training_reads_what_the_teacher_says_of_each_line_that_is_kept(
    project: Path, words: WordTeacher, vocab: Vocab, params: Params
) -> None:
    run.train_and_save(model(vocab), [spec(words)], params, ONE, check=lambda *_: None, out=project / "models/words",
                       curve_out=project / "words.csv")  # fmt: skip
    text = batches.tokenize(project / "text/reference.tsv", vocab, max_length=MAX_LENGTH)
    assert len(text.targets) == len(PAIRS)
    stored = TopKTargets(None, text, TopKCache(K, key(words, vocab)))
    stored.precompute(DataParallelGroup(network(), 1))
    assert len(stored.files) == 3
    decoder = forced_decoding.load(words.settings, vocab, ONE)
    for row in (29, 0, 13):
        alone = batches.TokenizedCorpus([text.sources[row]], [text.targets[row]])
        expected = forced_decoding.top_k(decoder, [PAIRS[row].source], alone, k=K, report=lambda _: None)
        found = stored.targets(batches.collate(text, [row]))
        assert torch.equal(found.ids, expected["ids"])
        torch.testing.assert_close(found.probs, expected["probs"].float(), rtol=2e-3, atol=1e-5)
    card = (project / "models/words/README.md").read_text()
    assert "opus" in card


def test_weights_depend_on_the_teacher_and_not_on_the_number_of_processes(
    project: Path, words: WordTeacher, vocab: Vocab, params: Params
) -> None:
    weights = {}
    for name, teacher_, processes in (("one", words, 1), ("two", words, 2), ("none", None, 1)):
        own = spec(teacher_)
        if teacher_ is None:
            own = TrainingRun("words", "student", own.text, own.corpus, run.RANDOM)
        run.train_and_save(model(vocab), [own], params, Machine(processes=processes, device="cpu"),
                           check=lambda *_: None, out=project / name, curve_out=project / f"{name}.csv")  # fmt: skip
        weights[name] = (project / name / "weights.safetensors").read_bytes()
    assert weights["one"] == weights["two"] != weights["none"]


def test_file_that_is_there_is_not_asked_for_again_and_a_killed_run_keeps_the_others(
    project: Path, words: WordTeacher, vocab: Vocab, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = project / "text/reference.tsv"
    text = batches.tokenize(path, vocab, max_length=MAX_LENGTH)
    cache = external_teacher.cache(words.settings, vocab, path, top_k=K, max_length=MAX_LENGTH)
    asked: list[list[str]] = []
    plain = forced_decoding.top_k

    def top_k(decoder, sources, text, **rest):  # type: ignore[no-untyped-def]
        asked.append(list(sources))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return plain(decoder, sources, text, **rest)

    def write() -> None:
        kept = (pair.source for pair, *_ in batches.tokenized_pairs(path, vocab, max_length=MAX_LENGTH))
        external_teacher.write(words, vocab, cache, text, sources=kept, machine=ONE)

    monkeypatch.setattr(forced_decoding, "top_k", top_k)
    with pytest.raises(KeyboardInterrupt):
        write()
    assert [file.name for file in cache.folder.iterdir()] == ["00000000"]
    write()
    write()
    sources = [pair.source for pair in PAIRS]
    assert asked == [sources[:12], sources[12:24], sources[12:24], sources[24:]]
    assert sorted(file.name for file in cache.folder.iterdir()) == ["00000000", "00000012", "00000024"]


def test_key_is_that_of_the_model_its_languages_the_text_and_the_settings(
    project: Path, words: WordTeacher, vocab: Vocab, made: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in made.iterdir():
        (moved / path.name).write_bytes(path.read_bytes())
    settings = words.settings.model_copy(update={"model": str(moved)})
    keys = [key(words, vocab)]
    assert key(WordTeacher("other", settings), vocab) == keys[0]  # neither a row's name nor a folder's counts
    keys += [key(words, vocab, top_k=6), key(words, vocab, max_length=9)]
    keys.append(key(words._replace(settings=settings.model_copy(update={"target_code": "de"})), vocab))
    (moved / "model.safetensors").write_bytes(b"other weights")
    keys.append(key(words._replace(settings=settings), vocab))
    bitext.write(project / "text/reference.tsv", PAIRS)
    keys.append(key(words, vocab))
    assert len(set(keys)) == len(keys)


def test_start_of_another_vocabulary_is_refused(
    project: Path, words: WordTeacher, vocab: Vocab, params: Params
) -> None:
    other = words.settings.model_copy(update={"target_code": "de"})
    another = vocabulary.of_teacher("opus", other, VocabSettings(size=vocab.size))
    with pytest.raises(InputError, match="models/teacher: its vocabulary is not that of words; train both anew"):
        run.prepare(model(another), spec(words), params, ONE)
