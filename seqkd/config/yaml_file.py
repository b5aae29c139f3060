"""YAML files, read as DVC reads them (YAML 1.2), so that a stage and DVC see the same values."""

import io
import reprlib
from collections.abc import Mapping
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from seqkd.utils.errors import InputError


def read(path: Path) -> object:
    """Return the file's values, {} for an empty file. Raise InputError, with the line, for broken YAML."""
    try:
        values = load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run this in the project's folder.") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8; convert the file.") from None
    except RecursionError:
        raise InputError(f"{path}: nested too deeply; correct the brackets.") from None
    except (YAMLError, ValueError, ArithmeticError, LookupError, TypeError, AttributeError, AssertionError) as error:
        # ruamel raises the last six for a value that does not fit its tag or form, such as the date 2026-13-45.
        mark = error.problem_mark or error.context_mark if isinstance(error, MarkedYAMLError) else None
        line = f", line {mark.line + 1}" if mark else ""
        raise InputError(f"{path}{line}: not valid YAML; {_remedy(error)}.") from None
    return {} if values is None else values


def load(text: str) -> object:
    """Return the values of a YAML text. Raise what ruamel raises."""
    return YAML(typ="safe").load(text)


def dump(values: Mapping[str, object]) -> str:
    """Return values as a YAML text in block style, in their order; a line each, however long."""
    writer, text = YAML(), io.StringIO()
    writer.allow_unicode, writer.width = True, 1 << 20
    writer.indent(mapping=2, sequence=4, offset=2)
    writer.dump(dict(values), text)
    return text.getvalue()


def _remedy(error: Exception) -> str:
    problem = str(getattr(error, "problem", "") or "")
    if isinstance(error, DuplicateKeyError):
        return "a key stands there twice, remove one of them"
    if "\\t" in problem or "\t" in problem:
        return "indent with spaces, not with tabs"
    return "correct the syntax there"


def printable_key(part: int | str) -> str:
    """Return a key as it may stand in a sentence of one line."""
    return str(part) if len(str(part)) <= 64 and str(part).isprintable() else reprlib.repr(part)
