"""An encoder-decoder model of the library transformers: its files, its tokenizer, its network."""

from collections.abc import Sequence
from typing import Any

import torch

from seqkd.config.machine import Machine
from seqkd.config.teachers import TransformersTeacher
from seqkd.utils.errors import InputError


def load(teacher: TransformersTeacher, machine: Machine) -> tuple[Any, Any]:
    """Return the tokenizer and the network. Raise InputError where the library cannot load them."""
    library = _library()
    library.logging.set_verbosity_error()
    library.logging.disable_progress_bar()
    languages = {"src_lang": teacher.source_code, "tgt_lang": teacher.target_code}
    given = {name: code for name, code in languages.items() if code and not _is_tag(code)}
    common = {"local_files_only": not machine.allow_download, "trust_remote_code": False}
    try:
        tokenizer = library.AutoTokenizer.from_pretrained(teacher.model, **given, **common)
        model = library.AutoModelForSeq2SeqLM.from_pretrained(
            teacher.model, use_safetensors=True, dtype=torch.float32, **common
        )
    except (OSError, ValueError, KeyError, ImportError, TypeError) as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[0].rstrip(".")
        wish = "" if machine.allow_download else ", or set allow_download: true in machine.yaml to fetch it by name"
        raise InputError(
            f"{teacher.model}: transformers cannot load it ({reason}); name the folder of an encoder-decoder model with"
            f" safetensors{wish}."
        ) from None
    return tokenizer, model.eval()


def version() -> str:
    """Return the library's version."""
    return str(_library().__version__)


def inputs(tokenizer: Any, sources: Sequence[str], teacher: TransformersTeacher) -> Any:
    """Return the encoder's inputs for source sentences, padded: `input_ids` and `attention_mask`, (batch, time)."""
    code = teacher.target_code
    tagged = [f"{code} {source}" if code and _is_tag(code) else source for source in sources]
    return tokenizer(tagged, return_tensors="pt", padding=True)


def forced_bos(tokenizer: Any, teacher: TransformersTeacher) -> int | None:
    """Return the id of the target language with which a translation begins; None: the row of teachers has none.

    Raise InputError for a language that the model does not know.
    """
    code = teacher.target_code
    if not code or _is_tag(code):
        return None
    id = tokenizer.convert_tokens_to_ids(code)
    if id is None or id == tokenizer.unk_token_id:
        raise InputError(f"{teacher.model} has no language {code!r}; write target_code as the model calls it.")
    return int(id)


def _is_tag(code: str) -> bool:
    """Return whether a target's code stands before the source, as >>pt_br<< of the OPUS models does."""
    return code.startswith(">>")


def _library() -> Any:
    try:
        import transformers
    except ModuleNotFoundError:
        raise InputError("a teacher of kind transformers needs its library; install seqkd[transformers].") from None
    return transformers
