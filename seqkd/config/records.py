"""Frozen records of settings files, and the types of their fields; a wrong key is refused by name."""

import re
import reprlib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, ClassVar, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from seqkd.config import old_names, yaml_file
from seqkd.config.old_names import OldNames
from seqkd.utils.errors import InputError

T = TypeVar("T")


def _matches(pattern: str, description: str) -> AfterValidator:
    """Return a validator that refuses a text which does not match pattern, with the description."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"must be {description}")
        return value

    return AfterValidator(check)


def some(values: T) -> T:
    """Refuse a list or mapping of numbers that is empty or whose numbers are all zero."""
    numbers: Iterable[object] = values.values() if isinstance(values, dict) else values  # type: ignore[assignment]
    if not any(numbers):
        raise ValueError("must hold a number above zero")
    return values


def distinct(values: list[T]) -> list[T]:
    if any(value in values[:index] for index, value in enumerate(values)):
        raise ValueError("must hold each value once")
    return values


Ratio = Annotated[float, Field(ge=0, lt=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
Range = Annotated[float, Field(gt=0, le=100)]
# A name becomes a part of paths, so it cannot lead out of a folder; 64 letters leave space for what stages add.
Name = Annotated[str, _matches(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", "at most 64 letters, digits, _ and -, such as seq-2")]
Language = Annotated[str, _matches(r"[A-Za-z0-9]+([._@-][A-Za-z0-9]+)*", "a language's code, such as de or pt_BR")]
Members = Annotated[int, Field(ge=1, le=16)]
Size = Annotated[str, _matches(r"[1-9][0-9]?x[1-9][0-9]{0,4}", "LAYERSxUNITS, such as 2x500, at most 99x99999")]


class Record(BaseModel):
    """A section of a settings file. Unknown, missing and mistyped keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    renamed: ClassVar[OldNames] = {}


R = TypeVar("R", bound=Record)


def parse(record: type[R], values: object, *, where: str, hint: str = "") -> R:
    """Return values as a record. Raise InputError with the first wrong key and the remedy, or the given hint."""
    old_names.refuse(values, record.renamed, where=where)
    try:
        return record.model_validate(values)
    except ValidationError as error:
        fault, remedy = _describe(error)
        raise InputError(f"{where}: {fault}; {hint or remedy}.") from None


def _describe(error: ValidationError) -> tuple[str, str]:
    """Return what is wrong with the first wrong key, and what to do."""
    first = error.errors(include_url=False)[0]
    path, value = list(first["loc"]), reprlib.repr(first["input"])
    if path[:1] == ["teachers"]:
        del path[2:3]  # the kind, which pydantic puts between the row and its key
        if first["type"] == "union_tag_not_found":
            return f"{'.'.join(map(str, path))}.kind is missing", "add it"
        if first["type"] == "union_tag_invalid":
            kind = reprlib.repr(first["ctx"]["tag"])
            return f"{'.'.join(map(str, path))}.kind is {kind}", f"it must be one of {first['ctx']['expected_tags']}"
    or_auto = path[-1:] == ["constrained-float"]  # pydantic's name for a number where auto is possible, too
    if or_auto:
        del path[-1]
    is_name = path[-1:] == ["[key]"]  # the name of a row is wrong, not what the row holds
    key = ".".join(map(yaml_file.printable_key, path[:-2] if is_name else path)) or "(the whole file)"
    if first["type"] == "extra_forbidden":
        return f"{key} is not a known key", "remove it or correct its spelling"
    if first["type"] == "missing":
        return f"{key} is missing", "add it"
    must = re.sub(r"^\w+ should ", "must ", first["msg"].removeprefix("Value error, "))
    must = must + " or auto" * (or_auto and first["type"].startswith("float_"))
    must = re.sub(r"be a valid dictionary( or instance of \w+)?", "be keys with values", must)
    return f"{key} {'has the key' if is_name else 'is'} {value}", f"it {must.replace(' after validation', '')}"


def load(path: Path, record: type[R]) -> R:
    """Read a YAML file as a record. Raise InputError for a file that is absent, not YAML or not such a record."""
    return parse(record, yaml_file.read(path), where=str(path))
