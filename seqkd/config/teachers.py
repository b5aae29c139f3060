"""The kinds of teachers, as rows of teachers in params.yaml."""

from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from seqkd.config.records import Record


class TrainedTeacher(Record):
    """The teacher that the pipeline trains; its model is called teacher."""

    kind: Literal["trained"]


class FilesTeacher(Record):
    """Translations that stand in files."""

    kind: Literal["files"]
    lists: Annotated[str, Field(min_length=1)]  # of the text: a file or a glob; plain or compressed
    sources: Annotated[str, Field(min_length=1)] | None = None  # whose lines the lists translate; None: the text's ids
    test: Annotated[str, Field(min_length=1)] | None = None  # of the test set, its lines in order or ids from 0


class CommandTeacher(Record):
    """A program that reads lines and writes lines; machine.yaml has its argv."""

    kind: Literal["command"]
    version: Annotated[str, Field(min_length=1, max_length=200)]  # another version's lines are not taken for this one's


class _ModelTeacher(Record):
    model: Annotated[str, Field(min_length=1)]  # the folder of the model
    source_code: Annotated[str, Field(min_length=1)] | None = None  # the languages as the model calls them
    target_code: Annotated[str, Field(min_length=1)] | None = None


class CTranslate2Teacher(_ModelTeacher):
    """A model that CTranslate2 has converted, with its sentencepiece models beside it."""

    kind: Literal["ctranslate2"]


class TransformersTeacher(_ModelTeacher):
    """An encoder-decoder model of the library transformers: a folder, or a name where machine.yaml allows downloads."""

    kind: Literal["transformers"]


TeacherSettings = Annotated[
    TrainedTeacher | FilesTeacher | CommandTeacher | CTranslate2Teacher | TransformersTeacher,
    Field(discriminator="kind"),
]
ExternalTeacher = FilesTeacher | CommandTeacher | CTranslate2Teacher | TransformersTeacher
ModelTeacher = CTranslate2Teacher | TransformersTeacher  # these may have a sentencepiece model
OWN_BEAM = (TrainedTeacher, CTranslate2Teacher, TransformersTeacher)  # these search with the row's beam


class WordTeacher(NamedTuple):
    """An external teacher that gives a distribution over the students' vocabulary."""

    name: str  # its row
    settings: TransformersTeacher
