"""dvc.yaml in plain Python: every instance of a stage, with foreach and matrix written out."""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from source_tree import ROOT


def leaves(value: Any, key: str) -> Iterator[str]:
    """The dotted keys of every single value under a key."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, f"{key}.{name}")
    else:
        yield key


def lookup(values: Any, key: str) -> Any:
    """The value at a dotted key; KeyError for none."""
    for part in key.split("."):
        values = values[int(part) if isinstance(values, list) else part]
    return values


def filled(template: Any, values: Mapping[str, Any]) -> Any:
    """The template with every ${...} replaced by its value."""
    if isinstance(template, dict):
        return {filled(key, values): filled(value, values) for key, value in template.items()}
    if isinstance(template, list):
        return [filled(value, values) for value in template]
    if not isinstance(template, str):
        return template
    if whole := re.fullmatch(r"\$\{([^}]+)\}", template):
        return lookup(values, whole[1].strip())
    return re.sub(r"\$\{([^}]+)\}", lambda found: str(lookup(values, found[1].strip())), template)


def instances(root: Path = ROOT) -> dict[str, dict[str, Any]]:
    """'distill@word_kd' -> its cmd, deps, params and so on, with foreach and matrix written out."""
    whole = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))
    values = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    for extra in whole.get("vars", []):
        values |= extra if isinstance(extra, dict) else yaml.safe_load((root / extra).read_text(encoding="utf-8"))
    found: dict[str, dict[str, Any]] = {}
    for name, template in whole["stages"].items():
        if "foreach" in template:
            over = filled(template["foreach"], values)
            rows = over.items() if isinstance(over, dict) else ((item, item) for item in over)
            for key, item in rows:
                found[f"{name}@{key}"] = filled(template["do"], {**values, "key": key, "item": item})
        elif "matrix" in template:
            axes = filled(template["matrix"], values)
            rest = {key: value for key, value in template.items() if key != "matrix"}
            for cell in itertools.product(*axes.values()):
                item = dict(zip(axes, cell, strict=True))
                found[f"{name}@{'-'.join(map(str, cell))}"] = filled(rest, {**values, "item": item, "key": item})
        else:
            found[name] = filled(template, values)
    return found


def stage_file(spec: Mapping[str, Any]) -> str:
    """Return stages/<stage>.py of `python -m seqkd <stage> ...`."""
    command = spec["cmd"] if isinstance(spec["cmd"], str) else " && ".join(spec["cmd"])
    found = re.findall(r"(?:^|&&|;|\s)python -m seqkd\s+([\w-]+)", command)
    assert len(found) == 1, f"a stage's cmd is one `python -m seqkd <stage> ...`, but here it is: {command}"
    return f"stages/{found[0].replace('-', '_')}.py"


def paths(entries: Iterable[Any]) -> set[str]:
    """The paths of deps or outs, which may stand with options."""
    return {entry if isinstance(entry, str) else next(iter(entry)) for entry in entries or ()}


def tracked(spec: Mapping[str, Any]) -> list[str]:
    """The keys of params.yaml that a stage lists."""
    keys: list[str] = []
    for entry in spec.get("params", ()):
        if isinstance(entry, str):
            keys.append(entry)
        else:
            keys += entry.get("params.yaml") or []
    return keys
