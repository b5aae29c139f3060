"""Codes of languages, as files and settings write them."""


def canonical(language: str) -> str:
    """Return a language's code in the one form in which pt-BR and pt_br are equal."""
    return language.replace("-", "_").casefold()
