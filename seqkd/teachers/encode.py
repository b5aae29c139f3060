"""Lists of text become lists of the students' pieces; those of several teachers are joined line by line."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from itertools import chain, zip_longest
from pathlib import Path
from typing import NamedTuple

from seqkd.data import bitext, list_origin, nbest, text_lists, vocab
from seqkd.data.bitext import Pair
from seqkd.data.list_origin import ListOrigin
from seqkd.data.nbest import Hypothesis
from seqkd.utils import atomic, pool

EXAMPLES = 5  # changed texts that are shown


class _Part(NamedTuple):
    number: int
    pairs: list[Pair]
    files: list[Path]  # of this part, one for each teacher


class _Counts(NamedTuple):
    hypotheses: int
    changed: list[tuple[str, str]]


def write(
    lists: Mapping[str, Path], text: Path, out: Path, *, vocabulary: Path, most: int | None, processes: int
) -> ListOrigin:
    """Write the n-best list of a text in pieces, as a folder, atomically; return the facts that stand in it.

    lists: the folder of each teacher's list of characters; most: hypotheses to take from each.
    Raise InputError where a list is not that of the text.
    """
    lines = bitext.count_pairs(text)
    columns = [nbest.parts(folder, lines=lines) for folder in lists.values()]
    with atomic.atomic_write(out) as folder:
        folder.mkdir()
        parts = map(
            _Part, range(nbest.count(lines)), nbest.chunks(bitext.stream(text)), map(list, zip(*columns, strict=True))
        )
        function = partial(_write_part, folder=folder, vocabulary=vocabulary, most=most)
        hypotheses, changed, examples = 0, 0, list[list[str]]()
        for counts in pool.map_ordered(function, parts, processes=processes):
            hypotheses, changed = hypotheses + counts.hypotheses, changed + len(counts.changed)
            examples += map(list, counts.changed[: EXAMPLES - len(examples)])
        origin = ListOrigin(teachers=[*lists], hypotheses=hypotheses, changed=changed, examples=examples)
        list_origin.write(folder, origin)
    return origin


def _write_part(part: _Part, *, folder: Path, vocabulary: Path, most: int | None) -> _Counts:
    columns = [nbest.read_part(path, part.pairs) for path in part.files]
    owners, entries, changed = list[list[int]](), list[tuple[Pair, list[Hypothesis]]](), list[tuple[str, str]]()
    for pair, *lists in zip(part.pairs, *columns, strict=True):
        joined = list(_interleaved([hypotheses[:most] for _, hypotheses in lists]))
        hypotheses = [hypothesis for _, hypothesis in joined]
        encoded, differ = text_lists.encode(hypotheses, _vocab(vocabulary), source=pair.source)
        owners.append([teacher for teacher, _ in joined])
        entries.append((pair, encoded))
        changed += differ
    nbest.write_part(folder, part.number, entries)
    if len(columns) > 1:
        list_origin.write_part(folder, part.number, owners)
    return _Counts(sum(map(len, owners)), changed)


def _interleaved(lists: Sequence[Sequence[Hypothesis]]) -> Iterator[tuple[int, Hypothesis]]:
    """Yield every teacher's best hypothesis, then every second one, and so on, each with its teacher's number."""
    by_teacher = [[(number, hypothesis) for hypothesis in hypotheses] for number, hypotheses in enumerate(lists)]
    return filter(None, chain.from_iterable(zip_longest(*by_teacher)))


def describe(origin: ListOrigin) -> str:
    """Return the facts in a line of text, and the changed texts in further ones."""
    head = f"{origin.hypotheses:,} hypotheses of {', '.join(origin.teachers)}; "
    head += f"{origin.changed:,} do not come back the same from the vocabulary"
    return "\n".join([head, *(f"  {before!r} -> {after!r}" for before, after in origin.examples)])


_vocab = cache(vocab.load)  # loaded once in each process
