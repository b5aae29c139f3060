"""The files of examples/: their syntax, and that the commands and options in them exist."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc_file import instances
from source_tree import ROOT

from seqkd import cli
from seqkd.utils import remote_command

EXAMPLES = ROOT / "examples"
SCRIPT = (EXAMPLES / "slurm.sh").read_text(encoding="utf-8").replace("\\\n", " ")
SERVICES = yaml.safe_load((EXAMPLES / "compose.yaml").read_text(encoding="utf-8"))["services"]
COMMANDS = [
    *(service["command"] for service in SERVICES.values()),
    *re.findall(r"^ *(?:srun .*?)?((?:dask|torchrun|seqkd) .*?)&?$", SCRIPT, re.MULTILINE),
]


@cache
def help_of(*words: str) -> str:
    command = [str(Path(sys.executable).with_name(words[0])), *words[1:], "--help"]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def test_slurm_file_is_a_script() -> None:
    subprocess.run(["bash", "-n", str(EXAMPLES / "slurm.sh")], check=True)
    settings = re.findall(r"^#SBATCH (--[a-z-]+)=\S+$", SCRIPT, re.MULTILINE)
    assert settings == ["--job-name", "--nodes", "--ntasks-per-node", "--cpus-per-task", "--time", "--output"]
    assert SCRIPT.index("#SBATCH") < SCRIPT.index("\nset ")  # sbatch reads no more of them behind a command


def test_dask_file_changes_settings_that_dask_has() -> None:
    distributed = pytest.importorskip("distributed", reason="needs the extra cluster")
    known = yaml.safe_load((Path(distributed.__file__).parent / "distributed.yaml").read_text(encoding="utf-8"))
    for path, value in leaves(yaml.safe_load((EXAMPLES / "dask.yaml").read_text(encoding="utf-8"))):
        assert dict(leaves(known))[path] != value, path


def leaves(tree: dict[str, Any], *above: str) -> Iterator[tuple[tuple[str, ...], object]]:
    """Yield the settings of a tree, each with its keys."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, *above, key)
        else:
            yield (*above, key), value


def test_compose_file_has_a_scheduler_three_workers_and_the_pipeline_in_one_folder() -> None:
    assert list(SERVICES) == ["scheduler", "worker", "pipeline"]
    assert SERVICES["worker"]["deploy"]["replicas"] == 3
    for service in SERVICES.values():
        assert service["volumes"] == [f"..:{service['working_dir']}"]
        assert (EXAMPLES / service["build"]["context"] / service["build"]["dockerfile"]).exists()
        assert set(service.get("depends_on", ())) <= set(SERVICES)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_the_examples_have_the_options_that_they_are_given(command: str) -> None:
    pytest.importorskip("distributed", reason="needs the extra cluster")
    words = shlex.split(command)
    if "-m" in words:  # what stands before is torchrun's
        _, module, stage, *rest = words[words.index("-m") :]
        assert (module, stage in cli.stage_files()) == ("seqkd", True)
        words = words[: words.index("-m")]
        parts = [(("seqkd", stage), rest), *([(("torchrun",), words[1:])] if words[0] == "torchrun" else [])]
    else:
        parts = [((words[0], words[1]), words[2:])]
    for program, arguments in parts:
        for option in (word for word in arguments if word.startswith("--")):
            assert re.search(rf"{option}\b", help_of(*program).replace("_", "-")), f"{program}: {option}"


def test_resource_of_the_examples_is_that_of_trainings() -> None:
    given = [word for command in COMMANDS for word in command.split() if word.endswith("=1")]
    assert given == [f"{remote_command.RESOURCE}=1"] * 2


def test_training_of_the_slurm_file_is_that_of_dvc() -> None:
    written = next(command for command in COMMANDS if command.startswith("torchrun")).split(" -m ")[1].split()
    own = instances()["train@teacher"]["cmd"].split(" -m ")[1].split()
    assert written == own[: own.index("--live")]
