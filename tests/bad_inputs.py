"""What goes wrong, as a table: a change to a small project, a command, and what must be said."""

import gzip
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from seqkd import checkpoint, corpus, nbest, vocab
from seqkd.corpus import Pair
from seqkd.nbest import Hypothesis

SETTINGS = """\
seed: 1
precision: fp32
data: {corpus: own, source: en, target: de, max_tokens: 60}
vocab: {size: 60}
teacher: {size: 1x8, dropout: 0.1}
student: {size: 1x8, dropout: 0.1}
optim:
  teacher: &scratch {method: adam, rate: 0.01, schedule: constant, epochs: 1, batch: 16}
  student: *scratch
  tune: *scratch
  retrain: *scratch
decode:
  k5: {beam: 5}
select:
  best: {nbest: k5, pick: score}
distill:
  whole: {text: best, alpha: 0.0}
finetune:
  later: {text: best, init: whole, alpha: 0.5}
prune: {model: later, ratios: [0.5], retrain: best, finetune: gold}
evaluate: {beams: [1]}
speed: {models: [teacher], sentences: 3, rounds: 1}
"""
ENGLISH = [f"the house number {number} is old" for number in range(40)]
GERMAN = [f"das Haus Nummer {number} ist alt" for number in range(40)]

VALIDATE = "validate --out settings.txt"
PREPROCESS = "preprocess --gold text/gold.tsv --out corpus --downloads downloads"
VOCAB = "vocab --text text/gold.tsv --out vocab/joint.model"
TRANSLATE = "translate --model models/teacher"
TRAIN = (
    "train baseline --role student --text text/gold.tsv --corpus corpus --vocabulary vocab/joint.model"
    " --curve curves/baseline.csv --out models/baseline"
)
SELECT = "select best --lists nbest --gold text/gold.tsv --vocab vocab/joint.model --texts text --audits audits"
FINETUNE = "finetune later --teacher models/teacher --texts text --corpus corpus --curves curves --models models"
PRUNE = "prune 0.5 --texts text --corpus corpus --curves curves --models models"
EXPORT = "export --model models/teacher --out"
EVALUATE = "evaluate baseline --models models --test corpus/test.tsv --translations said --out scores"


def joined(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


Change = Callable[[Path], object]


class Case(NamedTuple):
    name: str
    change: Change  # what is done to the project before the command
    command: str
    said: str  # must stand in what is printed
    code: int = 1


def settings(old: str, new: str) -> Change:
    """old in params.yaml becomes new."""
    assert old in SETTINGS
    return lambda root: (root / "params.yaml").write_text(SETTINGS.replace(old, new, 1), encoding="utf-8")


def file(name: str, content: bytes) -> Change:
    return lambda root: (root / name).write_bytes(content)


def packed(content: bytes, *, cut: int = 0) -> Change:
    """The German side as .gz, without its last bytes."""

    def change(root: Path) -> None:
        (root / "own/train.de").unlink()
        whole = gzip.compress(content, 1)
        (root / "own/train.de.gz").write_bytes(whole[: len(whole) - cut])

    return change


def both(english: list[str], german: list[str]) -> Change:
    def change(root: Path) -> None:
        file("own/train.en", joined(english))(root)
        file("own/train.de", joined(german))(root)

    return change


def nothing(root: Path) -> None:
    pass


def shape(**values: object) -> Change:
    def change(root: Path) -> None:
        path = root / "models/teacher/shape.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


def weights(change_them: Callable[[dict[str, torch.Tensor]], object], model: str = "teacher") -> Change:
    def change(root: Path) -> None:
        path = root / f"models/{model}/weights.safetensors"
        tensors = {name: value.clone() for name, value in load_file(path).items()}
        with safe_open(path, "pt") as file:
            about = file.metadata()
        change_them(tensors)
        save_file(tensors, path, metadata=about)

    return change


def pack(tensors: dict[str, torch.Tensor]) -> None:
    """One tensor as a pruned model's file holds each."""
    value = tensors.pop("combine").flatten()
    tensors["combine.values"] = value
    tensors["combine.kept"] = torch.from_numpy(np.packbits(np.ones(len(value), bool)))


def folder_for_a_file(root: Path) -> None:
    (root / MODEL).unlink()
    (root / MODEL).mkdir()


def other_vocabulary(root: Path) -> None:
    shutil.copy(root / "vocab/other.model", root / "models/teacher/vocab.model")


def other_teacher(root: Path) -> None:
    """A whole model, of another vocabulary of the same size."""
    pieces = vocab.load(root / "vocab/other.model")
    checkpoint.save(root / "models/teacher", checkpoint.load(root / "models/teacher")._replace(vocab=pieces), card="")


def listed(old: bytes, new: bytes) -> Change:
    """old in the teacher's list becomes new."""

    def change(root: Path) -> None:
        path = root / "nbest/k5/part-00000.tsv.gz"
        path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()).replace(old, new)))

    return change


def a_folder_for_a_part(root: Path) -> None:
    (root / "nbest/k5/part-00000.tsv.gz").unlink()
    (root / "nbest/k5/part-00000.tsv.gz").mkdir()


def cut(name: str) -> Change:
    return lambda root: (root / name).write_bytes((root / name).read_bytes()[:-40])


def ids(found: list[tuple[int, tuple[int, ...]]]) -> Change:
    """Another list of the teacher's, its ids and pieces."""

    def change(root: Path) -> None:
        shutil.rmtree(root / "nbest/k5")
        gold = corpus.read(root / "text/gold.tsv")
        lists = [
            (Pair(line, pair.source, ""), [Hypothesis(pieces, -1.0, True)])
            for (line, pieces), pair in zip(found, gold, strict=False)
        ]
        nbest.write_part(root / "nbest/k5", 0, lists)

    return change


def keyed(name: str, old: str, new: str, said: str) -> Case:
    """A mistake in params.yaml that validate finds."""
    return Case(name, settings(old, new), VALIDATE, f"params.yaml: {said}")


KEYS = [
    keyed("an unknown key", "seed: 1", "seed: 1\nsede: 1", "sede is not a known key; remove it"),
    keyed("an unknown key in a row", "beam: 5", "beam: 5, bean: 1", "decode.k5.bean is not a known key"),
    keyed("a missing key", "seed: 1\n", "", "seed is missing; add it."),
    keyed("a missing section", "evaluate: {beams: [1]}\n", "", "evaluate is missing; add it."),
    keyed("a number in quotes", "seed: 1", "seed: '1'", "seed is '1'; it must be a valid integer."),
    keyed("a fraction for a count", "epochs: 1", "epochs: 1.5", "optim.teacher.epochs is 1.5; it must be a valid int"),
    keyed("a truth value for a count", "epochs: 1", "epochs: true", "optim.teacher.epochs is True; it must be a valid"),
    keyed("a truth value for a language", "target: de", "target: false", "data.target is False; it must be a valid st"),
    keyed("a list for a section", "vocab: {size: 60}", "vocab: [60]", "vocab is [60]; it must be keys with values."),
    keyed("a list for rows", "decode:\n  k5: {beam: 5}", "decode: [5]", "decode is [5]; it must be keys with values."),
    keyed("a row of no keys", "  k5: {beam: 5}", "  k5: 5", "decode.k5 is 5; it must be keys with values."),
    keyed("a negative seed", "seed: 1", "seed: -1", "seed is -1; it must be greater than or equal to 0."),
    keyed("a seed beyond 32 bits", "seed: 1", "seed: 4294967296", "seed is 4294967296; it must be less than 42949"),
    keyed("a rate of nothing", "rate: 0.01", "rate: 0", "optim.teacher.rate is 0; it must be greater than 0."),
    keyed("a rate that is no number", "rate: 0.01", "rate: .nan", "optim.teacher.rate is nan; it must be a finite num"),
    keyed("an endless rate", "rate: 0.01", "rate: .inf", "optim.teacher.rate is inf; it must be a finite number."),
    keyed("a method of another kind", "method: adam", "method: adma", "optim.teacher.method is 'adma'; it must be 'ad"),
    keyed("size 2x", "size: 1x8", "size: 2x", "teacher.size is '2x'; it must be LAYERSxUNITS, such as 2x500"),
    keyed("size 0x5", "size: 1x8", "size: 0x5", "teacher.size is 5; it must be a valid string."),  # YAML: hexadecimal
    keyed("size '0x5'", "size: 1x8", "size: '0x5'", "teacher.size is '0x5'; it must be LAYERSxUNITS"),
    keyed("size -1x3", "size: 1x8", "size: -1x3", "teacher.size is '-1x3'; it must be LAYERSxUNITS"),
    keyed("a size beyond memory", "size: 1x8", "size: 2x999999", "teacher.size is '2x999999'; it must be LAYERSxUNITS"),
    keyed("a size of other digits", "size: 1x8", "size: 1x8٨", "teacher.size is '1x8٨'; it must be LAYERSxUNITS"),
    keyed(
        "a spread beyond floats", "size: 1x8,", "size: 1x8, spread: 1.0e+300,", "teacher.spread is 1e+300; it must be"
    ),
    keyed(
        "a spread of 1e39", "size: 1x8,", "size: 1x8, embedding_spread: 1.0e+39,", "teacher.embedding_spread is 1e+39"
    ),
    keyed("beam 0", "beam: 5", "beam: 0", "decode.k5.beam is 0; it must be greater than or equal to 1."),
    keyed("no beams", "beams: [1]", "beams: []", "evaluate.beams is []; it must have at least 1 item, not 0."),
    keyed("a beam twice", "beams: [1]", "beams: [1, 1]", "evaluate.beams is [1, 1]; it must hold each value once."),
    keyed("alpha 2", "alpha: 0.5", "alpha: 2", "finetune.later.alpha is 2; it must be less than or equal to 1."),
    keyed("dropout 1.0", "dropout: 0.1", "dropout: 1.0", "teacher.dropout is 1.0; it must be less than 1."),
    keyed("prune ratio 1.0", "ratios: [0.5]", "ratios: [1.0]", "prune.ratios.0 is 1.0; it must be less than 1."),
    keyed("a ratio twice", "ratios: [0.5]", "ratios: [0.5, 0.50]", "prune.ratios is [0.5, 0.5]; it must hold each val"),
    keyed("one language twice", "target: de", "target: en", "data.source and data.target are both 'en'; name two lan"),
    keyed("a path for a language", "target: de", "target: ../de", "data.target is '../de'; it must be a language's co"),
    keyed("a name with a slash", "  whole:", "  a/b:", "distill has the key 'a/b'; it must be at most 64 letters"),
    keyed("a name that leads upwards", "  whole:", "  ../..:", "distill has the key '../..'; it must be at most 64 le"),
    keyed("a name with a command", "  whole:", "  x;reboot:", "distill has the key 'x;reboot'; it must be at most"),
    keyed("a name of a thousand letters", "  whole:", f"  {'x' * 1000}:", "distill has the key 'xxxxxxxxxxxx...xxxxxx"),
    keyed("a row called teacher", "  whole:", "  teacher:", "distill.teacher and the teacher would both write teacher"),
    keyed("a row called baseline", "  later:", "  baseline:", "finetune.baseline and the baseline would both write ba"),
    keyed("a text called gold", "  best:", "  gold:", "select.gold and the human text would both write gold; rename"),
    keyed("a row of two tables", "  later:", "  whole:", "finetune.whole and distill.whole would both write whole; re"),
    keyed("rows apart by capitals", "  later:", "  Whole:", "finetune.Whole and distill.whole would both write Whole;"),
    keyed("a row called prune-0.5", "  later:", "  prune-0.5:", "finetune has the key 'prune-0.5'; it must be at most"),
    keyed("a ratio of words", "[0.5]", "['0.5; reboot']", "prune.ratios.0 is '0.5; reboot'; it must be a valid number"),
    keyed("an absent list", "nbest: k5", "nbest: k6", "select.best.nbest is 'k6'; it must be one of k5."),
    keyed("an absent text", "text: best, alpha: 0.0", "text: worst, alpha: 0.0", "distill.whole.text is 'worst'; it m"),
    keyed("an absent start", "init: whole", "init: nobody", "finetune.later.init is 'nobody'; it must be one of base"),
    keyed("a row that starts from itself", "init: whole", "init: later", "finetune.later.init is 'later'; it must be"),
    keyed(
        "a circle of rows",
        "  later: {text: best, init: whole,",
        "  a: {text: best, init: later, alpha: 0}\n  later: {text: best, init: a,",
        "finetune.a.init: a circle, a from later from a; start one from another model.",
    ),
    keyed("speed without the teacher", "models: [teacher]", "models: [whole]", "speed.models lacks the teacher, which"),
]

YAML = [
    Case("a key twice", settings("seed: 1", "seed: 1\nseed: 2"), VALIDATE, "params.yaml, line 2: not valid YAML; a ke"),
    Case("a tab", settings("  k5:", "\tk5:"), VALIDATE, "params.yaml, line 13: not valid YAML; indent with spaces"),
    Case("an open bracket", settings("[0.5]", "[0.5"), VALIDATE, "params.yaml, line 20: not valid YAML; correct the"),
    Case("not UTF-8", file("params.yaml", b"seed: \xff\n"), VALIDATE, "params.yaml: not UTF-8; convert the file."),
    Case("a date that is none", settings("seed: 1", "seed: 2026-13-45"), VALIDATE, "params.yaml: not valid YAML; corr"),
    Case("a number of 5000 digits", settings("seed: 1", f"seed: {'9' * 5000}"), VALIDATE, "params.yaml: not valid YAM"),
    Case("brackets without end", file("params.yaml", b"[" * 5000), VALIDATE, "params.yaml: nested too deeply"),
    Case("an object of Python", settings("1x8", "!!python/object:os.getcwd {}"), VALIDATE, "params.yaml, line 5: not"),
    Case("empty settings", file("params.yaml", b""), VALIDATE, "params.yaml: seed is missing; add it."),
    Case("no settings", lambda root: (root / "params.yaml").unlink(), VALIDATE, "params.yaml: no such file; run this"),
    Case("no workers", file("machine.yaml", b"workers: 0\n"), VALIDATE, "machine.yaml: workers is 0; it must be great"),
    Case("a device unknown", file("machine.yaml", b"device: tpu\n"), VALIDATE, "machine.yaml: device is 'tpu'; it mus"),
    Case("a key of no machine", file("machine.yaml", b"wrokers: 2\n"), VALIDATE, "machine.yaml: wrokers is not a know"),
    Case(
        "a list for a machine", file("machine.yaml", b"- 2\n"), VALIDATE, "(the whole file) is [2]; it must be keys wi"
    ),
    Case("an overlay unknown", file("o.yaml", b"student: {widht: 3}\n"), "use o.yaml", "o.yaml: student.widht is not"),
]

CORPUS = [
    Case("unequal files", file("own/train.de", joined(GERMAN[:38])), PREPROCESS, "own/train.en, line 39: no such line"),
    Case("an empty file", file("own/train.de", b""), PREPROCESS, "own/train.de: the file is empty; give it text"),
    Case("not UTF-8 text", file("own/train.de", b"ein\nzw\xff\n"), PREPROCESS, "own/train.de, line 2: not UTF-8; conv"),
    Case("UTF-16", file("own/train.de", "ein".encode("utf-16")), PREPROCESS, "own/train.de, line 1: "),
    Case("a NUL", file("own/train.de", b"ein\nzwei\0\n"), PREPROCESS, "own/train.de, line 2: a NUL character, so this"),
    Case("a line of 10 MB", file("own/train.de", b"a" * 10_000_000), PREPROCESS, "own/train.de, line 1: longer than 1"),
    Case("a packed line of 100 MB", packed(b"a" * 100_000_000), PREPROCESS, "line 1: longer than 1"),
    Case("only carriage returns", file("own/train.de", b"a\r" * 40), PREPROCESS, "own/train.en, line 2: no such line"),
    Case("only punctuation", both(["!" * n for n in range(1, 41)], ["?" * n for n in range(1, 41)]), PREPROCESS,
         "own: no pair of train has words on both sides; give it sentences."),
    Case("a test of blank lines", lambda root: [file(f"own/test.{side}", b"\n \n")(root) for side in ("en", "de")],
         PREPROCESS, "own: no pair of test has words on both sides; give it sentences."),
    Case("one source for all", both(["a b"] * 40, GERMAN), PREPROCESS,
         "own: too few pairs share neither side with another to split off dev and test; give dev and test files, bes"),
    Case("one target for all in one file", lambda root: (settings("corpus: own", "corpus: own.tsv")(root),
         file("own.tsv", joined([f"{text}\tein Haus" for text in ENGLISH]))(root)), PREPROCESS,
         "own.tsv: too few pairs share neither side with another to split off dev and test; give dev and test files, "),
    Case("all duplicates", both(["a b"] * 40, ["c d"] * 40), PREPROCESS, "own: 1 of 40 training pairs are left withou"),
    Case("one line", both(["a b"], ["c d"]), PREPROCESS, "own: 1 of 1 training pairs are left without repeats"),
    Case("source equals target", both(ENGLISH, ENGLISH), PREPROCESS, "own: the target of every training pair is its s"),
    Case("an unknown language", settings("target: de", "target: xx"), PREPROCESS, "own has no train.xx or train.xx.gz"),
    Case("an absent corpus", settings("corpus: own", "corpus: nowhere"), PREPROCESS, "data.corpus: nowhere does not e"),
    Case("three columns", lambda root: (settings("corpus: own", "corpus: own.tsv")(root),
         file("own.tsv", b"a\tb\nc\td\te\n")(root)), PREPROCESS, "own.tsv, line 2: 3 columns; write 'source, tab, tar"),
    Case("a recipe of no kind", lambda root: (settings("corpus: own", "corpus: own.yaml")(root),
         file("own.yaml", b"kind: magic\n")(root)), PREPROCESS, "own.yaml: kind is 'magic'; it must be 'wheels', 'gra"),
    Case("broken gzip", packed(joined(GERMAN), cut=9), PREPROCESS, "own/train.de.gz, after line 4"),
    Case("a vocabulary too large", settings("size: 60", "size: 60000"), VOCAB, "vocab.size is 60000, which this text"),
    Case("a vocabulary too small", settings("size: 60", "size: 16"), VOCAB, "vocab.size is 16, which this text cannot"),
    Case("a text too small", file("text/gold.tsv", b"1\ta b\ta b\n"), VOCAB, "the text is too small, so give more."),
    Case("a text of blank lines", file("text/gold.tsv", b"1\t\t\n2\t \t\n"), VOCAB, "cannot give; it has no word, or"),
    Case("an id twice", file("text/gold.tsv", b"1\ta\tb\n1\tc\td\n"), VOCAB, "text/gold.tsv, line 2: id 1 comes afte"),
    Case("a line without its end", file("text/gold.tsv", b"1\ta\tb\n2\tc"), VOCAB, "text/gold.tsv, line 2: not 'id, s"),
    Case("an id of other digits", file("text/gold.tsv", "²\ta\tb\n".encode()), VOCAB, "text/gold.tsv, line 1: not 'id"),
    Case("a text without lines", file("text/gold.tsv", b""), VOCAB, "text/gold.tsv: no line in it; make the file anew"),
]  # fmt: skip

MODEL = "models/teacher/weights.safetensors"
MODELS = [
    Case("no weights", lambda root: (root / MODEL).unlink(), TRANSLATE, f"{MODEL}: no such file; models/teacher is no"),
    Case("weights cut short", cut(MODEL), TRANSLATE, f"{MODEL}: not a whole safetensors file; train the model anew."),
    Case("a pickle for weights", file(MODEL, pickle.dumps({"a": 1})), TRANSLATE, f"{MODEL}: not a whole safetensors f"),
    Case("an empty file of weights", file(MODEL, b""), TRANSLATE, f"{MODEL}: not a whole safetensors file; train the"),
    Case("a tensor missing", weights(lambda it: it.pop("combine")), TRANSLATE, "models/teacher: weights.safetensors,"),
    Case("a tensor of halves", weights(lambda it: it.update(combine=it["combine"].half())), TRANSLATE, "do not belong"),
    Case("one tensor packed", weights(pack), TRANSLATE, "do not belong together"),
    Case("a matrix that is one number", weights(lambda it: it.update({"combine": torch.tensor(1, dtype=torch.int8),
         "combine.scale": torch.tensor(1.0)})), TRANSLATE, "do not belong together"),
    Case("a scale of nothing", weights(lambda it: it.update({"x.scale": torch.ones(3)})), TRANSLATE, "do not belong"),
    Case("a scale of a whole matrix", weights(lambda it: it.update({"combine.scale": torch.ones(len(it["combine"]))})),
         TRANSLATE, "do not belong together"),
    Case("a folder for weights", folder_for_a_file, TRANSLATE, f"{MODEL}: is a directory; correct the path; a file is"),
    Case("weights beyond numbers", weights(lambda it: [value.fill_(3e38) for value in it.values()], "baseline"),
         EVALUATE, "the model's weights are so large that it gives no numbers; train the model anew."),
    Case("another shape", shape(hidden=9), TRANSLATE, "models/teacher: weights.safetensors, shape.json and vocab.mode"),
    Case("a shape beyond memory", shape(hidden=10**9), TRANSLATE, "shape.json: hidden is 1000000000; it must be less"),
    Case("a shape of words", shape(layers="many"), TRANSLATE, "models/teacher/shape.json: layers is 'many'; it must b"),
    Case("a shape that is no JSON", file("models/teacher/shape.json", b"{"), TRANSLATE, "shape.json: not JSON; train"),
    Case("another vocabulary", other_vocabulary,
         TRANSLATE, "models/teacher: weights.safetensors, shape.json and vocab.model do not belong together; train"),
    Case("a vocabulary cut short", cut("models/teacher/vocab.model"), TRANSLATE, "models/teacher"),
    Case("a pickle for a vocabulary", file("models/teacher/vocab.model", pickle.dumps({"a": 1})), TRANSLATE,
         "models/teacher/vocab.model: not a sentencepiece model; make it anew with dvc repro."),
    Case("no model at all", lambda root: shutil.rmtree(root / "models/teacher"), TRANSLATE, "models/teacher/shape.jso"),
    Case("a teacher of another vocabulary", other_teacher, FINETUNE, "models/teacher: its vocabulary is not that of"),
    Case("a corpus's account cut short", file("corpus/about.json", b"{"), TRAIN, "corpus/about.json: not what preproc"),
    Case("no account of the corpus", lambda root: (root / "corpus/about.json").unlink(), TRAIN, "about.json: no such"),
    Case("a start that is not there", lambda root: shutil.rmtree(root / "models/whole"), FINETUNE,
         "models/whole/shape.json: no such file; models/whole is not a model's folder, or not a whole one; train it"),
    Case("a model to prune cut short", cut("models/later/weights.safetensors"), PRUNE, "models/later/weights.safetens"),
    Case("a model to evaluate of no row", nothing, EVALUATE.replace("baseline", "../own"), "has no row '../own'; name"),
    Case("another text's list", ids([(line + 1, (4,)) for line in range(40)]), SELECT, "part-00000.tsv.gz: id 1 stand"),
    Case("a shorter text's list", ids([(line, (4,)) for line in range(39)]), SELECT, "part-00000.tsv.gz: id 39 is mis"),
    Case("another vocabulary's list", ids([(line, (900,)) for line in range(40)]), SELECT, "beyond the vocabulary's 6"),
    Case("a list cut short", cut("nbest/k5/part-00000.tsv.gz"), SELECT, "part-00000.tsv.gz, after line"),
    Case("a likelihood above 1", listed(b"\t-1.0", b"\t1.0"), SELECT, "part-00000.tsv.gz, line 1: not 'id, source, ra"),
    Case("a likelihood of nan", listed(b"-1.000000", b"nan"), SELECT, "part-00000.tsv.gz, line 1: not 'id, source, r"),
    Case("Windows line ends in a list", listed(b"\n", b"\r\n"), SELECT, "part-00000.tsv.gz, line 1: not 'id, source,"),
    Case("a folder for a part", a_folder_for_a_part, SELECT, "nbest/k5/part-00000.tsv.gz: is a directory; correct the"),
    Case("no list", lambda root: shutil.rmtree(root / "nbest/k5"), SELECT, "nbest/k5/part-00000.tsv.gz: this part of"),
    Case("a row of no table", nothing, SELECT.replace("best", "worst", 1), "select has no row 'worst'; name one of be"),
    Case("a file that is not there", nothing, SELECT.replace("text/gold", "text/none"), "text/none.tsv: no such file"),
    Case("a folder of others' to write", nothing, f"{EXPORT} own", "own: holds something else than a model, which wou"),
    Case("a folder above the model", nothing, f"{EXPORT} models", "models: holds something else than a model, which w"),
    Case("the working folder to write", nothing, f"{EXPORT} .", ".: holds something else than a model, which would be"),
    Case("the model itself to write", nothing, f"{EXPORT} models/../models/teacher", "is the model itself, which"),
    Case("a folder above for a file", nothing, "validate --out ..", "..: cannot be replaced; choose another place."),
    Case("a folder for a file", nothing, SELECT.replace("text/gold.tsv", "text"), "text: is a directory; correct the"),
]  # fmt: skip

USAGE = [
    Case("beam 0 of translate", nothing, f"{TRANSLATE} --beam 0", "Invalid value for '--beam'", 2),
    Case("a beam without end", nothing, f"{TRANSLATE} --beam 99999999999999999999", "Invalid value for '--beam'", 2),
    Case("threads without end", nothing, f"{TRANSLATE} --threads {10**20}", "Invalid value for '--threads'", 2),
    Case("a beam of words", nothing, f"{TRANSLATE} --beam five", "Invalid value for '--beam'", 2),
    Case("a role of nobody", nothing, TRAIN.replace("student", "nobody"), "Invalid value for '--role'", 2),
    Case("no threads", nothing, f"{TRANSLATE} --threads 0", "Invalid value for '--threads'", 2),
    Case("an exponent of 2", nothing, f"{TRANSLATE} --normalise 2", "Invalid value for '--normalise'", 2),
    Case("no model named", nothing, "translate", "Missing option '--model'", 2),
    Case("an option unknown", nothing, f"{VALIDATE} --gold x", "No such option", 2),
    Case("a stage unknown", nothing, "distil", "there is no stage distil; did you mean distill?", 2),
]

CASES = [*KEYS, *YAML, *CORPUS, *MODELS, *USAGE]

FINE = [
    Case("right-to-left text",
         both([f"שלום עולם {n}" for n in range(40)], [f"مرحبا {n}" for n in range(40)]), PREPROCESS, ""),
    Case("tabs and carriage returns",
         both([f"{it}\tx\r" for it in ENGLISH], [f"\v{it}\x85" for it in GERMAN]), PREPROCESS, ""),
    Case("Norwegian", lambda root: (settings("target: de", "target: no")(root),
         (root / "own/train.de").rename(root / "own/train.no")), PREPROCESS, ""),
    Case("1e-2 for a rate", settings("rate: 0.01", "rate: 1e-2"), VALIDATE, ""),
    Case("a card that is not UTF-8", file("models/teacher/README.md", b"M\xfcller\n"), f"{EXPORT} small", ""),
    Case("a row as DVC names it", nothing, SELECT.replace("best", "select@best", 1), ""),
]  # fmt: skip
