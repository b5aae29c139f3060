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


def preview(overlay: Path, *, params: Path) -> schema.Params:
    """Return params with the overlay's settings, and write nothing. Raise InputError as `apply` does."""
    return _merged(overlay, params)[1]


def apply(overlay: Path, *, params: Path) -> list[Change]:
    """Write the overlay's settings into params and return what changed.

    Raise InputError, and change nothing, for settings that would not be valid.
    """
    merged_text, _ = _merged(overlay, params)
    merged, text = yaml_file.load(merged_text), params.read_text(encoding="utf-8")
    before, wanted = _flatten(yaml_file.load(text)), _flatten(records.load(overlay, schema.Overlay).model_extra or {})
    kept = _flatten(merged)
    _check_aliases(before | wanted, kept, params)
    changes = [Change(key, before.get(key), after) for key, after in kept.items() if before.get(key) != after]
    changes += [Change(key, value, None) for key, value in before.items() if key not in kept]
    if changes:
        with atomic.open_text(params) as file:
            file.write(merged_text)
    return changes


def _merged(overlay: Path, params: Path) -> tuple[str, schema.Params]:
    """Return the text of params with the overlay's settings in it, and what it says."""
    overrides = records.load(overlay, schema.Overlay).model_extra or {}
    records.load(params, schema.Params)
    text = _merged_text(params.read_text(encoding="utf-8"), overrides, where=f"{overlay}: ")
    settings = records.parse(schema.Params, yaml_file.load(text), where=str(overlay))
    return text, references.check(settings, where=str(overlay))


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
