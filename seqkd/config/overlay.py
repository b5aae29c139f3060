"""Overlays: files in configs/ that change some settings of params.yaml and keep its comments and all else."""

from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML

from seqkd.config import records, references, schema, yaml_file
from seqkd.utils import atomic
from seqkd.utils.errors import InputError


class Change(NamedTuple):
    key: str  # with its section, such as optim.teacher.epochs
    before: object  # None: the key is new
    after: object  # None: the key is removed


def apply(overlay: Path, *, params: Path) -> list[Change]:
    """Write the overlay's settings into params and return what changed.

    Raise InputError, and change nothing, for settings that would not be valid.
    """
    overrides = records.load(overlay, schema.Overlay).model_extra or {}
    records.load(params, schema.Params)
    text = params.read_text(encoding="utf-8")
    merged_text = _merged_text(text, overrides, where=f"{overlay}: ")
    merged = yaml_file.load(merged_text)
    references.check(records.parse(schema.Params, merged, where=str(overlay)), where=str(overlay))
    before, wanted = _flatten(yaml_file.load(text)), _flatten(overrides)
    kept = _flatten(merged)
    _check_aliases(before | wanted, kept, params)
    changes = [Change(key, before.get(key), after) for key, after in kept.items() if before.get(key) != after]
    changes += [Change(key, value, None) for key, value in before.items() if key not in kept]
    if changes:
        with atomic.open_text(params) as file:
            file.write(merged_text)
    return changes


def _merged_text(text: str, overrides: dict[str, Any], *, where: str) -> str:
    """Return a YAML text with other values in it, comments and line breaks as they were."""
    yaml = YAML()
    yaml.width = 4096  # no line is wrapped
    yaml.preserve_quotes = True
    settings, merged = yaml.load(text), StringIO()
    _merge(settings, overrides, where=where)
    yaml.dump(settings, merged)
    return merged.getvalue()


def _check_aliases(expected: dict[str, object], merged: dict[str, object], params: Path) -> None:
    """Raise InputError where a key changed that no overlay names: an alias gives two keys the same value."""
    for key, value in merged.items():
        if key not in expected or expected[key] != value:
            raise InputError(
                f"{params}: {key} shares its value by an alias (& and *) and would become {value!r} too; "
                "write the values out."
            )


def _flatten(settings: Any, key: str = "") -> dict[str, object]:
    """Return the values of nested sections by their whole keys, such as optim.teacher.epochs."""
    if not isinstance(settings, dict):
        return {key: settings}
    sections = [_flatten(value, f"{key}.{name}" if key else str(name)) for name, value in settings.items()]
    return {path: value for section in sections for path, value in section.items()}


def _merge(settings: dict[str, Any], overrides: dict[str, Any], *, where: str) -> None:
    """Change settings in place: sections are merged key by key, null removes a key, any other value is replaced."""
    for key, value in overrides.items():
        before = settings.get(key)
        if value is None:
            settings.pop(key, None)
        elif isinstance(before, dict) and isinstance(value, dict):
            _merge(before, value, where=f"{where}{key}.")
        elif isinstance(before, dict):
            raise InputError(f"{where}{key} is {value!r}; it must be a section with keys, as in params.yaml.")
        elif before != value:
            settings[key] = value
