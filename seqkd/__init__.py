"""Sequence-level knowledge distillation (Kim & Rush 2016) as a library.

    import seqkd
    model = seqkd.load("models/seq_kd")
    model.translate(["The connection failed."], beam_size=5)

The functions and classes named in __all__ are the public interface; `import seqkd` itself loads no other module.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seqkd.api import Hypothesis as Hypothesis
    from seqkd.api import Translator as Translator
    from seqkd.api import load as load
    from seqkd.utils.errors import InputError as InputError

__version__ = "0.2.0"
__all__ = ["Hypothesis", "InputError", "Translator", "__version__", "load"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, because torch takes two seconds."""
    import importlib

    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module("seqkd.utils.errors" if name == "InputError" else "seqkd.api"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
