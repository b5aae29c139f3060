"""seqkd.load and what it returns, on a small model that has learnt nothing."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from networks import PLACEHOLDERS, save_untrained_model, untrained_model
from networks import TEXT as PIECES
from source_tree import ROOT

import seqkd
from seqkd.data import placeholders, vocab
from seqkd.models import checkpoint

TEXT = ["the cat sat on the mat", "a dog ran", "", "the dog sat", "  a cat ran on the mat ", "the mat"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_untrained_model(tmp_path_factory.mktemp("model"), TEXT)


@pytest.fixture(scope="module")
def model(folder: Path) -> seqkd.Translator:
    return seqkd.load(folder, device="cpu")


def command_line(folder: Path, *options: str) -> list[str]:
    command = [sys.executable, "-m", "seqkd", "translate", "--model", str(folder), *options]
    done = subprocess.run(command, input="\n".join(TEXT), capture_output=True, text=True, check=True, cwd=ROOT)
    return done.stdout.splitlines()


@pytest.mark.slow
def test_translate_returns_the_lines_of_the_command(model: seqkd.Translator, folder: Path) -> None:
    assert model.translate(TEXT) == command_line(folder)
    assert model.translate(TEXT)[2] == ""
    greedy = command_line(folder, "--beam", "1", "--length-penalty", "0")
    assert model.translate(iter(TEXT), beam_size=1, length_penalty=0.0) == greedy
    assert model.translate([]) == []


def test_load_takes_the_device_and_precision_of_the_caller(folder: Path, model: seqkd.Translator) -> None:
    rounded = seqkd.load(str(folder), device="cpu", precision="bf16")
    assert len(rounded.translate(TEXT)) == len(TEXT)
    assert model.translate(TEXT) == seqkd.load(folder, device="cpu").translate(TEXT)


def test_translate_warns_of_a_text_that_is_too_long(model: seqkd.Translator) -> None:
    said = r"of 2 texts, the first is texts\[1\], only the first 1,000 pieces are translated; break them into sentences"
    with pytest.warns(UserWarning, match=said):
        found = model.translate(["a dog", "e" * 3000, "e" * 2000], beam_size=1)
    assert found == model.translate(["a dog", "e" * 999, "e" * 999], beam_size=1)


def test_nbest_is_ranked_by_the_normalized_score(model: seqkd.Translator) -> None:
    lists = model.nbest(TEXT, beam_size=4, n=3)
    assert [len(hypotheses) for hypotheses in lists] == [3, 3, 1, 3, 3, 3]
    assert lists[2] == [seqkd.Hypothesis("", 0.0, 0.0)]
    assert [hypotheses[0].text for hypotheses in lists] == model.translate(TEXT, beam_size=4)
    assert [len(hypotheses) for hypotheses in model.nbest(TEXT[:2], beam_size=2)] == [2, 2]
    for hypotheses in model.nbest(TEXT[:2], beam_size=4, length_penalty=0.0):
        assert all(each.score == each.normalized_score < 0 for each in hypotheses)


def test_hypotheses_have_the_placeholders_of_their_own_text(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "m", untrained_model(tmp_path, texts=[*PIECES, PLACEHOLDERS]), card="")
    model = seqkd.load(tmp_path / "m", device="cpu")
    texts = [PLACEHOLDERS.replace("}", f"of{number}}}") for number in range(5)]
    first, *others = model.nbest(texts, beam_size=3)
    for number, hypotheses in enumerate(others, start=1):
        assert [each.text for each in hypotheses] == [each.text.replace("of0}", f"of{number}}}") for each in first]
    assert all(placeholders.find(each.text) for each in first)
    assert model.translate(texts, beam_size=3)[4] == others[3][0].text


def test_scores_are_the_models_log_probabilities(model: seqkd.Translator, folder: Path) -> None:
    loaded = checkpoint.load(folder)
    (hypotheses,) = model.nbest(["a dog ran"], beam_size=3, length_penalty=0.5)
    source = torch.tensor(loaded.vocab.encode("a dog ran"))[:, None]
    checked = 0
    for text, score, normalized in hypotheses:
        pieces = loaded.vocab.encode(text)
        for ids in (pieces, [*pieces, vocab.EOS]):  # cut off, or ended
            if math.isclose(score / len(ids) ** 0.5, normalized, rel_tol=1e-6):
                entered = torch.tensor([vocab.BOS, *ids[:-1]])[:, None]
                logs = loaded.network.logits(loaded.network(source, entered)).log_softmax(-1)
                assert logs[torch.arange(len(ids)), 0, ids].sum().item() == pytest.approx(score, abs=1e-3)
                checked += 1
    assert checked


def test_translate_leaves_the_callers_threads_as_they_were(model: seqkd.Translator, folder: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        seqkd.load(folder, device="cpu").translate(TEXT)
        assert torch.get_num_threads() == before + 1
        with pytest.raises(ValueError, match="beam_size"):
            model.translate(TEXT, beam_size=0)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_wrong_arguments_are_value_errors(model: seqkd.Translator, folder: Path) -> None:
    with pytest.raises(ValueError, match="texts is a single string; give a list of strings"):
        model.translate("a dog ran")
    with pytest.raises(ValueError, match="beam_size is 0; it must be at least 1"):
        model.nbest(TEXT, beam_size=0)
    for n in (0, 6):
        with pytest.raises(ValueError, match=f"n is {n}; it must be from 1 to beam_size, which is 5"):
            model.nbest(TEXT, n=n)
    for penalty in (-0.5, 1.5, math.nan):
        with pytest.raises(ValueError, match=r"length_penalty is .*; it must be from 0 to 1"):
            model.translate(TEXT, length_penalty=penalty)
    with pytest.raises(ValueError, match="device is 'tpu'; it must be one of auto, cpu, cuda"):
        seqkd.load(folder, device="tpu")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="precision is 'int8'; it must be one of fp32, bf16"):
        seqkd.load(folder, precision="int8")  # type: ignore[arg-type]


def test_load_refuses_a_model_that_cannot_be_used(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(seqkd.InputError, match=f"{tmp_path}/none/shape.json: no such file"):
        seqkd.load(tmp_path / "none")
    large = checkpoint.load(folder)
    with torch.no_grad():
        for parameter in large.network.parameters():
            parameter.fill_(3e38)
    checkpoint.save(tmp_path / "large", large, card="")
    with pytest.raises(seqkd.InputError, match=f"{tmp_path}/large: its weights are so large"):
        seqkd.load(tmp_path / "large", device="cpu").translate(TEXT)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_load_refuses_a_gpu_that_is_not_there(folder: Path) -> None:
    with pytest.raises(seqkd.InputError, match="device is cuda, but torch finds no GPU; use cpu or auto"):
        seqkd.load(folder, device="cuda")
    assert seqkd.load(folder).translate([""]) == [""]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_load_on_a_gpu_gives_the_translations_of_the_cpu(folder: Path, model: seqkd.Translator) -> None:
    assert seqkd.load(folder, device="cuda").translate(TEXT) == model.translate(TEXT)


def test_import_loads_no_other_module_before_it_is_needed() -> None:
    code = "import sys, seqkd; print([name for name in sys.modules if name.startswith(('seqkd.', 'torch'))])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT) == "[]\n"
    assert {"load", "Translator", "Hypothesis", "InputError", "__version__"} <= set(dir(seqkd))
    with pytest.raises(AttributeError, match="module 'seqkd' has no attribute 'nothing'"):
        _ = seqkd.nothing
