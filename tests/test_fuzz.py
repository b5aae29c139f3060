"""Every reader of a file gets damaged ones: it reads them or says in one sentence what is wrong."""

import gzip
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polib
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from source_tree import ROOT

from seqkd.config import load, overlay, records, schema
from seqkd.corpora import local, mtdata, prepare, synthetic, wheels
from seqkd.corpora.wheels import Package
from seqkd.data import bitext, nbest, vocab
from seqkd.data.bitext import Pair
from seqkd.data.nbest import Hypothesis
from seqkd.evaluation import measurements
from seqkd.evaluation.measurements import ModelScores
from seqkd.models import checkpoint, lstm
from seqkd.models.checkpoint import Model
from seqkd.reporting import results, tables
from seqkd.selection import audit
from seqkd.training import curve
from seqkd.training.curve import Epoch
from seqkd.utils.errors import InputError

pytestmark = pytest.mark.slow

TOKENS = [
    b"\0", b"\n", b"\r", b"\t", b" ", b"\xff", b"\xc2\xb2", b"\xef\xbb\xbf", b"-1", b"0", b"9" * 30, b"9" * 5000,
    b"nan", b"1e999", b"-", b":", b"{", b"}", b"[", b"]", b"[" * 2000, b'"', b"'", b"&a ", b"*a", b"<<: *a", b"!!int ",
    b"!!set ", b"2026-13-45", b"%", b"\\", b"null", b"true", b"\xed\xa0\x80", b'"\\ud800"', b"- ", b"? ", b"| ", b"# ",
]  # fmt: skip


@dataclass(frozen=True, repr=False)
class Format:
    name: str  # of the file
    valid: bytes
    read: Callable[[Path], object]
    pack: Callable[[bytes], bytes] = bytes  # applied after the damage


def damaged(valid: bytes) -> st.SearchStrategy[bytes]:
    """Return valid bytes with up to five cuts, each filled with something or nothing; or any bytes."""
    filling = st.sampled_from(TOKENS) | st.binary(max_size=8)
    cut = st.tuples(st.integers(0, len(valid)), st.integers(0, 1) | st.integers(0, len(valid)), filling)

    def damage(cuts: list[tuple[int, int, bytes]]) -> bytes:
        content = valid
        for start, length, filled in cuts:
            content = content[:start] + filled + content[start + length :]
        return content

    return st.lists(cut, min_size=1, max_size=5).map(damage) | st.binary(max_size=60)


def zipped(name: str) -> Callable[[bytes], bytes]:
    """Return a function that makes a wheel with the content under a name."""

    def pack(content: bytes) -> bytes:
        wheel = io.BytesIO()
        with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("tiny-1.0.dist-info/METADATA", "Name: tiny\n")
            archive.writestr(name, content)
        return wheel.getvalue()

    return pack


def unpacked(pattern: str) -> Callable[[Path], object]:
    package = Package(name="tiny", version="1.0", sha256=None, files=pattern)
    return lambda path: (wheels.texts(path, package, source="en", target="de"), wheels.licence(path))


def audited(path: Path) -> object:
    params = load.params(ROOT / "params.yaml")
    one = params.model_copy(update={"select": {path.stem: next(iter(params.select.values()))}})
    return results.audits(path.parent, one)


def laid_over(path: Path) -> object:
    (path.parent / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    return overlay.apply(path, params=path.parent / "params.yaml")


def catalogue() -> polib.POFile:
    made = polib.POFile()
    made.metadata = {"Content-Type": "text/plain; charset=UTF-8"}
    made.append(polib.POEntry(msgid="Open the door", msgstr="Öffne die Tür"))
    made.append(polib.POEntry(msgid="%d door", msgid_plural="%d doors", msgstr_plural={0: "%d Tür", 1: "%d Türen"}))
    return made


def formats(folder: Path) -> dict[str, Format]:
    """Return each format with a valid example; those of a model are read from folder/model."""
    listed = [Pair(number, f"a dog {number}", f"ein Hund {number}") for number in range(3)]
    bitext.write(folder / "reference.tsv", listed)
    nbest.write_part(folder / "lists", 0, [(pair, [Hypothesis((4, 5), -1.5, True)] * 2) for pair in listed])
    curve.write(folder / "curve.csv", [Epoch(1, 10, 0.1, 2.5, 9.75), Epoch(2, 20, 0.1, 2.25, 8.5)])
    pieces = vocab.train(["the cat sat", "der Kater"] * 5, folder / "joint.model", size=24)
    network = lstm.LSTMNetwork(lstm.NetworkShape(pieces.size, 1, 4, 0.0))
    kept = torch.arange(sum(parameter.numel() for parameter in network.parameters())) % 2 == 0
    checkpoint.save(folder / "model", Model(network, pieces, kept), card="")
    scored = {"parameters": 9, "remaining": 9, "bytes": 9, "perplexity": 2.5, "mode_probability": 0.5, "model": "m"}
    scored |= {"signature_bleu": "s", "signature_chrf": "s"}
    scored |= {"beams": {"1": {"bleu": 1.5, "chrf": 2.5, "length_ratio": 1.0}}}
    stats = audit.SelectionStats()
    stats.count_line([Hypothesis((4, 5), -1.5, True)] * 2, ["a dog", "the dog"], 1)
    summary = audit.summarize(stats, "audit", schema.SelectSettings(nbest="k5", metric="score"), tokenizer="13a")
    read = {path.name: path.read_bytes() for path in (folder / "model").iterdir() if path.suffix != ".md"}
    part = (folder / "lists/part-00000.tsv.gz").read_bytes()
    pairs = b"a dog\tein Hund\na cat\teine Katze\na cow\teine Kuh\nthe sun\tdie Sonne\n"
    yaml = {f"{path.parent.name}/{path.stem}": path.read_bytes() for path in ROOT.glob("co[nr]*/*.yaml")}

    def own_pairs(path: Path) -> object:
        return local.prepare_file(path, source="en", target="de", seed=1)

    def loaded(path: Path) -> object:
        for name, content in read.items():
            if name != path.name:
                (path.parent / name).write_bytes(content)
        return checkpoint.load(path.parent)

    return {
        "params.yaml": Format("params.yaml", (ROOT / "params.yaml").read_bytes(), load.params),
        "machine.yaml": Format("machine.yaml", b"processes: 2\nmatmul_backend: auto\n", load.machine),
        "a recipe's kind": Format("r.yaml", b"kind: grammar\n", lambda path: records.load(path, prepare.RecipeKind)),
        "wheels": Format("w.yaml", yaml["corpora/homeassistant"], lambda path: records.load(path, wheels.WheelsRecipe)),
        "grammar": Format(
            "g.yaml", yaml["corpora/grammar"], lambda path: records.load(path, synthetic.SyntheticRecipe)
        ),
        "public": Format("p.yaml", yaml["corpora/ted-th-en"], lambda path: records.load(path, mtdata.MtdataRecipe)),
        "an overlay": Format("o.yaml", yaml["configs/ted-th-en"], laid_over),
        "a corpus": Format("reference.tsv", (folder / "reference.tsv").read_bytes(), bitext.read),
        "one's own pairs": Format("own.tsv", pairs, own_pairs),
        "packed pairs": Format("own.tsv.gz", gzip.compress(pairs), own_pairs),
        "pairs, packed": Format("own.tsv.gz", pairs, own_pairs, gzip.compress),
        "a packed part": Format("part-00000.tsv.gz", part, lambda path: list(nbest.read_part(path, listed))),
        "a part, packed": Format(
            "part-00000.tsv.gz", gzip.decompress(part), lambda path: list(nbest.read_part(path, listed)), gzip.compress
        ),
        "weights": Format("model/weights.safetensors", read["weights.safetensors"], loaded),
        "a shape": Format("model/shape.json", read["shape.json"], loaded),
        "a vocabulary": Format("model/vocab.model", read["vocab.model"], loaded),
        "a curve": Format("curve.csv", (folder / "curve.csv").read_bytes(), curve.read),
        "scores": Format("s.json", json.dumps(scored).encode(),
                         lambda path: measurements.read(ModelScores, path)),
        "an audit": Format("audit.json", summary.model_dump_json().encode(), audited),
        "a table": Format("t.csv", b"model,bleu_1\nteacher,20.5\nbaseline,17.25\n", tables.read),
        "a wheel": Format("t.whl", zipped("tiny/en.json")(b'{"a": {"b": "c"}}'), unpacked("tiny/{language}.json")),
        "texts in JSON": Format("t.whl", b'{"a": {"b": "c"}, "d": "e"}', unpacked("tiny/{language}.json"),
                                zipped("tiny/en.json")),
        "a po file": Format("t.whl", str(catalogue()).encode(), unpacked("{language}.po"), zipped("de.po")),
        "an mo file": Format("t.whl", catalogue().to_binary(), unpacked("{language}.mo"), zipped("de.mo")),
    }  # fmt: skip


NAMES = [
    "params.yaml", "machine.yaml", "a recipe's kind", "wheels", "grammar", "public", "an overlay", "a corpus",
    "one's own pairs", "packed pairs", "pairs, packed", "a packed part", "a part, packed", "weights", "a shape",
    "a vocabulary", "a curve", "scores", "an audit", "a table", "a wheel", "texts in JSON", "a po file", "an mo file",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def known(folder: Path) -> dict[str, Format]:
    return formats(folder)


def test_examples_of_all_formats_are_read(known: dict[str, Format], folder: Path) -> None:
    assert list(known) == NAMES
    for example in known.values():
        path = folder / "valid" / example.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(example.pack(example.valid))
        example.read(path)


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_damaged_files_are_read_or_refused_in_one_sentence(
    name: str, known: dict[str, Format], folder: Path, data: st.DataObject
) -> None:
    example = known[name]
    path = folder / example.name
    path.write_bytes(example.pack(data.draw(damaged(example.valid))))
    message = ""
    try:
        example.read(path)
    except InputError as error:
        message = str(error)
    assert "\n" not in message
    assert len(message) < 1000
