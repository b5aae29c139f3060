"""An overlay laid over params.yaml: the settings it names change, the comments and everything else stay."""

from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML

from seqkd.config import schema, yaml_file
from seqkd.utils import atomic
from seqkd.utils.errors import InputError


class Change(NamedTuple):
    key: str  # its path, with dots
    before: object  # None: there was no such key
    after: object


def apply(overlay: Path, *, params: Path) -> list[Change]:
    """What changed in params. Raises InputError, and changes nothing, for settings that would not be valid."""
    wanted = schema.load(overlay, schema.Overlay).model_extra or {}
    schema.load(params, schema.Params)
    yaml = YAML()
    yaml.width = 4096  # a row stays on its line
    yaml.preserve_quotes = True
    written = params.read_text(encoding="utf-8")
    settings = yaml.load(written)
    _merge(settings, wanted, where=f"{overlay}: ")
    text = StringIO()
    yaml.dump(settings, text)
    merged = yaml_file.load(text.getvalue())
    schema.check_names(schema.parse(schema.Params, merged, where=str(overlay)), where=str(overlay))
    before, told = _leaves(yaml_file.load(written)), _leaves(wanted)
    _as_told(before | told, _leaves(merged), params)
    changes = [Change(key, before.get(key), after) for key, after in told.items() if before.get(key) != after]
    if changes:
        with atomic.open_text(params) as file:
            file.write(text.getvalue())
    return changes


def _as_told(told: dict[str, object], merged: dict[str, object], params: Path) -> None:
    """Raises InputError where a key changed that none was to: two keys that an alias joins change together."""
    for key, value in merged.items():
        if key not in told or told[key] != value:
            raise InputError(
                f"{params}: {key} shares its value by an alias (& and *) and would become {value!r} too; "
                "write the values out."
            )


def _leaves(settings: Any, key: str = "") -> dict[str, object]:
    """What stands in no section but is a value itself, by its path."""
    if not isinstance(settings, dict):
        return {key: settings}
    inner = [_leaves(value, f"{key}.{name}" if key else str(name)) for name, value in settings.items()]
    return {path: value for found in inner for path, value in found.items()}


def _merge(settings: dict[str, Any], wanted: dict[str, Any], *, where: str) -> None:
    """Changes settings: sections merge key by key, anything else is replaced."""
    for key, value in wanted.items():
        before = settings.get(key)
        if isinstance(before, dict) and isinstance(value, dict):
            _merge(before, value, where=f"{where}{key}.")
        elif isinstance(before, dict):
            raise InputError(f"{where}{key} is {value!r}; it must be a section with keys, as in params.yaml.")
        elif before != value:
            settings[key] = value
