"""reports/benchmarks.md: a section for each processor or GPU, of which a run replaces those that it has results of."""

from collections.abc import Mapping

HEAD = """# Benchmarks

Rates of one core are per second of processor time, so that a busy neighbour counts little; medians. Figures of two
processors come from two runs: compare ratios, not rates.
"""


def merge(text: str, sections: Mapping[str, str]) -> str:
    """Return the page with these sections, by processor, in place of those it had; others stay, new ones come last."""
    kept = {**dict(_split(text)), **sections}
    return "\n".join([HEAD, *(f"## {processor}\n\n{body.strip()}\n" for processor, body in kept.items())])


def _split(text: str) -> list[tuple[str, str]]:
    """Return heading and body of every section of a page."""
    parts = f"\n{text}".split("\n## ")[1:]
    return [(heading, body) for heading, _, body in (part.partition("\n") for part in parts)]
