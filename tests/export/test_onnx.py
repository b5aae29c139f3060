"""The ONNX graph: what onnxruntime computes from it is what greedy search finds; a folder is whole or not there."""

import subprocess
import sys
from pathlib import Path

import pytest
from networks import PLACEHOLDERS, TEXT, untrained_model

from seqkd.data import placeholders
from seqkd.data.normalization import normalize
from seqkd.decoding import beam_search
from seqkd.export import card
from seqkd.models import checkpoint
from seqkd.models.checkpoint import Model
from seqkd.utils.errors import InputError
from stages import export

np = pytest.importorskip("numpy")
onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra onnx")

LINES = ["a cat", "", "the dog sat on a mat, and ran 🐈", "the %s of {b}", PLACEHOLDERS, "Matte " * 30, "\u00ad"]


@pytest.fixture(scope="module", params=[1, 2])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return untrained_model(tmp_path_factory.mktemp("made"), layers=request.param, texts=[*TEXT, PLACEHOLDERS])


def greedy(model: Model, lines: list[str]) -> list[list[int]]:
    found = beam_search.decode(model.network, model.vocab.encode_all(lines), beam=1)
    return [list(nbest[0].ids) for nbest in found]


def test_onnx_graph_holds_standard_operators_alone(made: Model) -> None:
    from seqkd.export import onnx_graph

    proto = onnx_graph.build(made)
    body = next(node.attribute[0].g for node in proto.graph.node if node.op_type == "Loop")
    assert {node.domain for node in (*proto.graph.node, *body.node)} == {""}
    assert [(each.domain, each.version) for each in proto.opset_import] == [("", 18)]


def test_onnx_graph_writes_the_pieces_of_greedy_search(made: Model) -> None:
    from seqkd.export import onnx_graph

    session = onnxruntime.InferenceSession(onnx_graph.serialize(made), providers=["CPUExecutionProvider"])
    for line, ids in zip(LINES, greedy(made, LINES), strict=True):
        source = made.vocab.encode(line)
        if source:
            assert session.run(None, {"source": np.array(source)})[0].tolist() == ids


def test_onnx_graph_reads_only_the_beginning_of_a_source_that_is_too_long(made: Model) -> None:
    from seqkd.export import onnx_folder, onnx_graph

    first, second = onnx_folder.translate(onnx_graph.serialize(made), made.vocab, ["日" * 334, "日" * 334 + " a cat"])
    assert first == second


def test_onnx_graph_in_int8_is_a_third_of_the_size_and_translates(made: Model) -> None:
    from seqkd.export import onnx_folder, onnx_graph

    whole, small = onnx_graph.serialize(made), onnx_graph.serialize(made, int8=True)
    weights = 4 * sum(parameter.numel() for parameter in made.network.parameters())
    assert len(whole) - len(small) > 0.6 * weights
    assert onnx_folder.translate(small, made.vocab, LINES)[1] == ""


def test_export_to_onnx_writes_a_folder_whose_example_translates_as_greedy_search(made: Model, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "m", made, card="# m\n\nUse: `seqkd translate`.\n")
    export.main(model=tmp_path / "m", to="onnx", out=tmp_path / "sent")
    names = sorted(path.name for path in (tmp_path / "sent").iterdir())
    assert names == ["README.md", "model.onnx", "placeholders.py", "translate.py", "vocab.model"]
    command = [sys.executable, str(tmp_path / "sent/translate.py")]
    done = subprocess.run(command, input="\n".join(LINES[:5]), capture_output=True, text=True, check=True)
    printed = [normalize(line) for line in done.stdout.split("\n")[:-1]]  # the example leaves controls in
    assert printed == made.vocab.decode_all(greedy(made, LINES[:5]), LINES[:5])
    assert any(map(placeholders.find, printed))
    assert "Use: `python translate.py < text.txt`" in (tmp_path / "sent/README.md").read_text()


def test_export_to_onnx_leaves_a_folder_with_other_files_alone(made: Model, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "m", made, card="")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("")
    with pytest.raises(InputError, match="holds something else"):
        export.main(model=tmp_path / "m", to="onnx", out=tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]
    assert card.read(tmp_path / "m").metadata == {}
