"""The card of an exported model: what training wrote, with the scores of the weights that are sent."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from seqkd.config import yaml_file
from seqkd.export.scores import TestScores
from seqkd.models import checkpoint

FENCE = "---\n"


class Card(NamedTuple):
    metadata: Mapping[str, Any]  # empty for a card of an earlier version
    text: str  # Markdown

    def render(self) -> str:
        """Return the card as it stands in README.md."""
        return f"{FENCE}{yaml_file.dump(self.metadata)}{FENCE}{self.text}" if self.metadata else self.text

    @property
    def languages(self) -> list[str]:
        """The source and the target language's codes; none where the card does not say them."""
        languages = self.metadata.get("language")
        return [str(code) for code in languages] if isinstance(languages, list) and len(languages) == 2 else []

    @property
    def target(self) -> str:
        """The target language's code; empty where the card does not say it."""
        return self.languages[1] if self.languages else ""

    @property
    def title(self) -> str:
        """The model's name: the card's first heading."""
        headings = (line[2:].strip() for line in self.text.splitlines() if line.startswith("# "))
        return next(headings, "a model")


def read(folder: Path) -> Card:
    """Return the card of a model's folder; one whose metadata is broken, as text alone."""
    text = (folder / checkpoint.CARD).read_text(encoding="utf-8", errors="replace")
    if text.startswith(FENCE) and len(parts := text.split(FENCE, 2)) == 3:
        try:
            metadata = yaml_file.load(parts[1])
        except Exception:  # ruamel raises nearly anything; a card is no reason to refuse a model
            metadata = None
        if isinstance(metadata, dict):
            return Card(metadata, parts[2])
    return Card({}, text)


def describe(card: Card, *, weights: str, scores: Sequence[TestScores], use: str = "") -> Card:
    """Return the card with the precision of the weights and their scores on a test set, if any.

    use: how to use them, where that is not as training wrote it.
    """
    text = re.sub(r"^Use: .*$", lambda _: f"Use: {use}", card.text, count=1, flags=re.MULTILINE) if use else card.text
    lines = [text.rstrip("\n"), "", f"Weights: {weights}."]
    if not scores:
        return card._replace(text="\n".join(lines) + "\n")
    data = scores[0].data
    lines += ["", "## On the test set", "", f"{data}, {scores[0].sentences:,} sentences; 95 % bootstrap intervals.", ""]
    lines += ["| beam | metric | score | signature |", "|---|---|---|---|"]
    lines += [
        f"| {each.beam} | {one.metric} | {one.value:.1f} ± {one.interval:.1f} | {one.signature.replace('|', ' ')} |"
        for each in scores
        for one in each.estimates
    ]
    return Card(_with_results(card, scores), "\n".join(lines) + "\n")


def _with_results(card: Card, scores: Sequence[TestScores]) -> Mapping[str, Any]:
    """Return the card's metadata with the test scores as a further result in its model-index."""
    try:
        [model] = card.metadata["model-index"]
        results = [*model["results"]]
    except (KeyError, TypeError, ValueError):  # of an earlier version, or edited by hand
        return card.metadata
    metrics = [
        {
            "type": one.metric.lower().rstrip("2"),
            "name": f"{one.metric}, beam {each.beam}, 95 % interval ±{one.interval:.1f}, {one.signature}",
            "value": round(one.value, 2),
        }
        for each in scores
        for one in each.estimates
    ]
    data = {"name": scores[0].data, "type": "parallel-text", "split": "test"}
    results.append({"task": {"type": "translation"}, "dataset": data, "metrics": metrics})
    return {**card.metadata, "model-index": [{**model, "results": results}]}
