"""Files and settings from elsewhere run no code: no pickle is loaded, no shell sees a text, no name leads upwards."""

import ast
import io
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from dvc.exceptions import DvcException
from dvc.parsing import DataResolver
from dvc.repo import Repo
from packaging.requirements import Requirement
from source_tree import ROOT

from seqkd.config import load
from seqkd.data import bitext, nbest, vocab
from seqkd.data.bitext import Pair
from seqkd.evaluation import measurements
from seqkd.models import checkpoint, lstm
from seqkd.training import curve, training_state
from seqkd.utils import atomic, fingerprint, jit
from seqkd.utils.errors import InputError

BIN = Path(sys.executable).parent
SOURCES = sorted(path for folder in ("seqkd", "stages", "benchmarks") for path in (ROOT / folder).rglob("*.py"))

# The source.

MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "yaml"}  # yaml: we use ruamel
CALLS = {"eval", "exec", "compile", "os.system", "os.popen", "torch.load", "torch.hub.load", "np.load", "numpy.load"}
OPTIONS = {"shell", "allow_pickle"}  # as keywords that are true


def unsafe(tree: ast.AST) -> Iterator[str]:
    """Yield what could run code from a file or a text."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from (f"imports {name}" for name in names if name.partition(".")[0] in MODULES)
        elif isinstance(node, ast.Call):
            name, given = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
            harmless = given.get("weights_only") == "True" or given.get("allow_pickle") == "False"
            if name in CALLS and not harmless:
                yield f"calls {name}"
            yield from (f"passes {option}" for option in OPTIONS if given.get(option, "False") != "False")
            if name.endswith("YAML") and given.get("typ", "'rt'") not in ("'rt'", "'safe'"):
                yield "reads YAML with objects"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_sources_load_no_pickle_and_run_no_text(path: Path) -> None:
    assert list(unsafe(ast.parse(path.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    "line",
    ["import pickle", "from pickle import loads", "torch.load(path)", "torch.load(path, weights_only=False)",
     "np.load(path)", "np.fromfile(path, allow_pickle=True)", "import yaml", "YAML(typ='unsafe').load(text)", "eval(x)",
     "subprocess.run(line, shell=True)", "os.system(line)"],
)  # fmt: skip
def test_search_for_unsafe_code_finds_it(line: str) -> None:
    assert list(unsafe(ast.parse(line)))
    assert not list(unsafe(ast.parse("torch.load(path, weights_only=True); YAML(typ='safe'); re.search(a, b)")))


def test_libraries_are_newer_than_their_known_vulnerabilities() -> None:
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    needed = {requirement.name: requirement.specifier for requirement in map(Requirement, dependencies)}
    for name, vulnerable in {"torch": "2.5.1", "sentencepiece": "0.2.0"}.items():
        assert not needed[name].contains(vulnerable)
    assert "pyarrow" not in needed
    assert not any("pyarrow" in path.read_text(encoding="utf-8") for path in SOURCES)


def test_wheels_of_the_project_are_pinned_by_their_checksum() -> None:
    recipes = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in ROOT.glob("corpora/*.yaml")]
    packages = [package for recipe in recipes for package in recipe.get("packages", [])]
    assert len(packages) > 10
    assert all(len(package["sha256"]) == 64 for package in packages)


# Files.


class Evil:
    """An object that makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.marker),)


def evil_files(marker: Path) -> dict[str, bytes]:
    """Return files that make the marker when they are loaded as what they are."""
    torch_file, array_file, archive = io.BytesIO(), io.BytesIO(), io.BytesIO()
    torch.save({"combine": Evil(marker)}, torch_file)
    np.save(array_file, np.array([Evil(marker)], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("archive/data.pkl", pickle.dumps(Evil(marker)))
    return {
        "a pickle": pickle.dumps(Evil(marker)),
        "a file of torch": torch_file.getvalue(),
        "an array of numpy": array_file.getvalue(),
        "a zip": archive.getvalue(),
        "YAML with an object": f"!!python/object/apply:os.mkdir ['{marker}']".encode(),
    }


def _resumed(path: Path) -> None:
    """Read a training's state, under the name with its checksum."""
    path.rename(path.with_name(f"state-1-{fingerprint.file_sha256(path)[:16]}.safetensors"))
    if training_state.latest(path.parent) is None:
        raise InputError("dropped")


READERS: dict[str, Callable[[Path], object]] = {
    "weights.safetensors": lambda path: checkpoint.load(path.parent),
    "shape.json": lambda path: checkpoint.load(path.parent),
    "vocab.model": lambda path: checkpoint.load(path.parent),
    "joint.model": vocab.load,
    "reference.tsv": bitext.read,
    "part-00000.tsv.gz": lambda path: list(nbest.read_part(path, [Pair(0, "a", "b")])),
    "curve.csv": curve.read,
    "scores.json": measurements.read_json,
    "params.yaml": load.params,
    "machine.yaml": load.machine,
    "state": _resumed,
}


@pytest.mark.parametrize("kind", ["a pickle", "a file of torch", "an array of numpy", "a zip", "YAML with an object"])
@pytest.mark.parametrize("name", READERS)
def test_readers_run_no_code_of_a_file(name: str, kind: str, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    pieces = vocab.train(["the cat sat", "der Kater"] * 5, tmp_path / "real.model", size=24)
    network = lstm.LSTMNetwork(lstm.NetworkShape(pieces.size, 1, 4, 0.0))
    checkpoint.save(tmp_path / "model", checkpoint.Model(network, pieces, None), card="")
    path = tmp_path / "model" / name
    path.write_bytes(evil_files(marker)[kind])
    with pytest.raises(Exception):  # noqa: B017, PT011 - other tests check which one
        READERS[name](path)
    assert not marker.exists()


def test_evil_files_do_run_code_elsewhere(tmp_path: Path) -> None:
    files = evil_files(tmp_path / "marker")
    pickle.loads(files["a pickle"])
    assert (tmp_path / "marker").exists()
    (tmp_path / "marker").rmdir()
    torch.load(io.BytesIO(files["a file of torch"]), weights_only=False)
    assert (tmp_path / "marker").exists()


def test_compiled_code_is_kept_where_no_other_user_can_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """numba stores it in pickles."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file"))
    (tmp_path / "file").touch()  # the first choice is no folder
    private = tmp_path / f"seqkd-{os.getuid()}"
    assert jit.cache_folder("code") == str(private / "code")
    assert private.stat().st_mode & 0o777 == 0o700
    private.chmod(0o770)
    assert jit.cache_folder("code") == ""
    with pytest.raises(PermissionError, match="lets others write"):
        atomic.private_tmp_dir()
    private.rename(tmp_path / "another's")
    private.symlink_to(tmp_path / "another's")
    (tmp_path / "another's").chmod(0o700)
    assert jit.cache_folder("code") == ""


@pytest.mark.slow
def test_compiled_code_that_cannot_be_kept_is_compiled_each_time(tmp_path: Path) -> None:
    environment = os.environ | {"NUMBA_CACHE_DIR": "/dev/null/x", "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    (tmp_path / f"seqkd-{os.getuid()}").touch()
    script = (
        "from seqkd.ops.cpu import gemm\nfrom seqkd.selection import sentence_bleu\n"
        "for module in (gemm, sentence_bleu):\n"
        "    compiled = [value for value in vars(module).values() if hasattr(value, 'nopython_signatures')]\n"
        "    print(len(compiled) > 0, {function._cache.cache_path for function in compiled})"
    )
    printed = subprocess.check_output([sys.executable, "-c", script], env=environment, text=True)
    assert printed == "True {None}\n" * 2


# Texts of params.yaml in the cmd of a stage.

PAYLOADS = [
    "x; touch marker", "$(touch marker)", "`touch marker`", "x' ; touch marker ; '", 'x" ; touch marker ; "',
    "x\ntouch marker\n", "x | touch marker", "x && touch marker", "x > marker", "x & touch marker",
    "$(touch${IFS}marker)", "'$(touch marker)'", "\\\"; touch marker #",
]  # fmt: skip
ROW = {"train_text": "reference", "alpha": 0.5}
EDITS: dict[str, Callable[[dict[str, Any], str], object]] = {
    "data.corpus": lambda values, text: values["data"].update(corpus=text),
    "data.source": lambda values, text: values["data"].update(source=text),
    "seed": lambda values, text: values.update(seed=text),
    "student.size": lambda values, text: values["student"].update(size=text),
    "a row of decode": lambda values, text: values["decode"].update({text: {"beam": 2}}),
    "a row of select": lambda values, text: values["select"].update({text: {"nbest": "k5", "metric": "score"}}),
    "a row of distill": lambda values, text: values["distill"].update({text: ROW}),
    "a row of finetune": lambda values, text: values["finetune"].update({text: {**ROW, "init_from": "baseline"}}),
    "a list": lambda values, text: values["select"]["seq_kd"].update(nbest=text),
    "a text": lambda values, text: values["distill"]["seq_kd"].update(train_text=text),
    "a start": lambda values, text: values["finetune"]["seq_inter"].update(init_from=text),
    "a text of finetune": lambda values, text: values["finetune"]["seq_inter"].update(train_text=text),
    "prune.model": lambda values, text: values["prune"].update(model=text),
    "prune.retrain": lambda values, text: values["prune"].update(retrain=text),
    "prune.ratios": lambda values, text: values["prune"].update(ratios=[text]),
    "evaluate.beams": lambda values, text: values["evaluate"].update(beams=[text]),
    "speed.models": lambda values, text: values["speed"].update(models=[text]),
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repo]:
    root = tmp_path_factory.mktemp("resolve")
    made = Repo.init(str(root), no_scm=True)
    yield made
    made.close()


def commands(repository: Repo, stages: dict[str, Any], values: dict[str, Any]) -> dict[str, str]:
    """Return each stage's cmd as DVC makes it of these settings; none where DVC itself refuses them."""
    (Path(repository.root_dir) / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    try:
        resolver = DataResolver(repository, repository.root_dir, stages)
        return {name: resolver.resolve_one(name)[name]["cmd"] for name in resolver.get_keys()}
    except DvcException:
        return {}


def run(command: str, stage: str, folder: Path) -> bool:
    """Return whether the cmd, run as DVC runs it, made the marker; python itself does nothing."""
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin/python").write_text("#!/bin/sh\nexit 0\n")
    (folder / "bin/python").chmod(0o755)
    environment = {"PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}", "DVC_STAGE": stage}
    for line in command.splitlines():
        subprocess.run(["/bin/sh", "-c", line], cwd=folder, env=environment, capture_output=True, check=False)
    made = (folder / "marker").exists()
    (folder / "marker").unlink(missing_ok=True)
    return made


def pipeline() -> dict[str, Any]:
    stages: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    return stages


@pytest.fixture
def values() -> dict[str, Any]:
    settings: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    return settings


@pytest.mark.dvc
@pytest.mark.parametrize("key", EDITS)
def test_texts_of_params_yaml_are_not_run_by_the_shell(
    key: str, repository: Repo, values: dict[str, Any], tmp_path: Path
) -> None:
    usual = commands(repository, pipeline(), values)
    assert len(usual) > 30
    for payload in PAYLOADS:
        changed = yaml.safe_load(yaml.safe_dump(values))
        EDITS[key](changed, payload)
        for stage, command in commands(repository, pipeline(), changed).items():
            assert "marker" not in command
            if stage not in usual:
                assert not run(command, stage, tmp_path), f"{payload!r} in {stage}: {command}"


@pytest.mark.dvc
def test_texts_of_params_yaml_would_be_run_in_a_cmd(repository: Repo, values: dict[str, Any], tmp_path: Path) -> None:
    naive = {"stages": {"prune": {"cmd": "python -m seqkd prune ${prune.model}"}}}
    for payload in PAYLOADS[:3]:
        values["prune"]["model"] = payload
        assert run(commands(repository, naive, values)["prune"], "prune", tmp_path)


# The real pipeline, by DVC itself.


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with a Git history of its own, and a folder that it does not know."""
    root = tmp_path_factory.mktemp("real") / "project"
    for name in subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines():
        if name.partition("/")[0] not in {"tests", "benchmarks", "reports", "dvc.lock"} and (ROOT / name).exists():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, root / name)
    for folder in (root / "precious", root.parent / "outside"):
        folder.mkdir()
        (folder / "thesis").touch()
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=b", *command], cwd=root, check=True)
    return root


def dvc(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    environment |= {"DVC_SITE_CACHE_DIR": str(project.parent / "site"), "SHELL": "/bin/sh"}
    return subprocess.run(["dvc", *words], cwd=project, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.dvc
@pytest.mark.slow
@pytest.mark.parametrize("name", ["../precious", "../../outside", "x;touch marker", "$(touch marker)"])
def test_names_that_lead_elsewhere_are_refused_before_dvc_removes_what_they_lead_to(name: str, project: Path) -> None:
    """DVC removes a stage's outs before it runs the stage, wherever they are: the stage could not refuse in time."""
    before = (project / "params.yaml").read_text(encoding="utf-8")
    values = yaml.safe_load(before)
    values["distill"][name] = ROW
    (project / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    done = dvc(project, "repro")
    (project / "params.yaml").write_text(before, encoding="utf-8")
    assert done.returncode != 0
    assert f"distill has the key {name!r}; it must be at most 64 letters" in done.stderr
    assert (project / "precious/thesis").exists()
    assert (project.parent / "outside/thesis").exists()
    assert not (project / "marker").exists()
    assert not (project / "data/text/reference.tsv").exists()


@pytest.mark.dvc
@pytest.mark.slow
@pytest.mark.parametrize(
    "setting", ["prune.model='x; touch marker'", "+distill.y={train_text: 'a; touch marker', alpha: 0}"]
)
def test_experiment_with_a_command_in_a_setting_is_refused(setting: str, project: Path) -> None:
    done = dvc(project, "exp", "run", "-S", setting)
    assert done.returncode != 0
    assert "touch marker" in done.stderr, done.stderr
    assert not (project / "marker").exists()
    subprocess.run(["git", "checkout", "-q", "params.yaml"], cwd=project, check=True)
