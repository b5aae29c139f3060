"""What a model of the library transformers finds likely at each word of given translations, in the students' pieces."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from seqkd.config.machine import Machine
from seqkd.config.teachers import TransformersTeacher
from seqkd.data import batches
from seqkd.data.batches import TokenizedCorpus
from seqkd.data.vocab import EOS, UNK, Vocab
from seqkd.models import transformers_model
from seqkd.utils.errors import InputError

BATCH_SIZE = 32  # sentences that are read at once
MAX_LOGITS = 1 << 25  # of a batch, padding included; fewer sentences are read at once where they have more
ADDED = 3  # positions of the longest sentence beside its pieces: a start, a language, an end


class ForcedDecoder(NamedTuple):
    """A model that is given translations in the pieces of a vocabulary."""

    teacher: TransformersTeacher
    tokenizer: Any
    model: Any
    ids: Tensor  # (V,) the model's id of each piece; the number of its ids: it has no such piece

    @property
    def vocab_size(self) -> int:
        """The number of the model's own ids, padding of its matrices included."""
        return int(self.model.get_output_embeddings().out_features)


def load(teacher: TransformersTeacher, vocab: Vocab, machine: Machine) -> ForcedDecoder:
    """Load a model. Raise InputError where the library cannot, or it has hardly any of the vocabulary's pieces."""
    torch.set_num_threads(machine.processes)
    tokenizer, model = transformers_model.load(teacher, machine)
    decoder = ForcedDecoder(teacher, tokenizer, model, torch.empty(0))
    known = tokenizer.target_encoder if getattr(tokenizer, "separate_vocabs", False) else tokenizer.get_vocab()
    absent = decoder.vocab_size
    ids = [absent if piece.kind == "control" else known.get(piece.text, absent) for piece in vocab.pieces()]
    ids[EOS], ids[UNK] = tokenizer.eos_token_id, tokenizer.unk_token_id
    if sum(id != absent for id in ids) * 2 < len(ids):
        raise InputError(f"{teacher.model}: its tokenizer has other pieces than its sentencepiece model; make it anew.")
    return decoder._replace(ids=torch.tensor(ids))


@torch.no_grad()
def top_k(
    decoder: ForcedDecoder, sources: Sequence[str], text: TokenizedCorpus, *, k: int, report: Callable[[int], object]
) -> dict[str, Tensor]:
    """Return the k likeliest pieces at every target token of a text, EOS included, line after line.

    ids: (tokens, k), distinct within a row; probs: (tokens, k + 1), half precision: those of ids, then the rest, which
    holds all that the model thinks of pieces that the vocabulary lacks. sources: those of the text, as text. report is
    told of so many more lines.
    """
    starts, tokens, pieces = text.target_starts.tolist(), text.target_tokens, len(decoder.ids)
    ids = torch.empty(tokens, k, dtype=torch.int16 if pieces <= 1 << 15 else torch.int32)
    probs = torch.empty(tokens, k + 1, dtype=torch.float16)
    for rows in _batches(decoder, text):
        given = [sources[row] for row in rows], [text.targets[row] for row in rows]
        for row, log_probs in zip(rows, _log_probs(decoder, *given), strict=True):
            own = slice(starts[row], starts[row] + len(log_probs))
            values, ids[own] = log_probs.exp().topk(k, -1)
            rest = (1.0 - values.sum(-1, keepdim=True)).clamp(min=0.0)
            probs[own] = torch.cat((values, rest), 1).half()
        report(len(rows))
    return {"ids": ids, "probs": probs}


def _batches(decoder: ForcedDecoder, text: TokenizedCorpus) -> Iterator[list[int]]:
    """Yield all rows in batches of sentences of similar length. Raise InputError for one that is too long."""
    for rows in batches.make_batches(text, BATCH_SIZE):
        longest = text.longest(rows) + ADDED
        most = getattr(decoder.model.config, "max_position_embeddings", longest)
        if longest > most:
            raise InputError(
                f"params.yaml: {decoder.teacher.model} reads {most - ADDED} pieces at most, and a line has"
                f" {longest - ADDED}; lower data.max_length."
            )
        size = max(1, MAX_LOGITS // (longest * decoder.vocab_size))
        yield from (rows[start : start + size] for start in range(0, len(rows), size))


def _log_probs(decoder: ForcedDecoder, sources: Sequence[str], targets: Iterable[Sequence[int]]) -> Iterator[Tensor]:
    """Yield the log-probabilities of the vocabulary's pieces, (target tokens, V), of each sentence."""
    tokenizer, model, absent = decoder.tokenizer, decoder.model, decoder.vocab_size
    first = transformers_model.forced_bos(tokenizer, decoder.teacher)
    first = model.generation_config.forced_bos_token_id if first is None else first
    start = [model.generation_config.decoder_start_token_id, *([] if first is None else [first])]
    forced = [decoder.ids[torch.tensor(target, dtype=torch.long)] for target in targets]
    forced = [torch.cat((torch.tensor(start), ids.where(ids != absent, decoder.ids[UNK]))) for ids in forced]
    padded = torch.nn.utils.rnn.pad_sequence(forced, batch_first=True, padding_value=model.config.pad_token_id)
    inputs = transformers_model.inputs(tokenizer, sources, decoder.teacher)
    logits = model(**inputs, decoder_input_ids=padded, use_cache=False).logits
    logits[..., _forbidden(model)] = -torch.inf
    for row, ids in zip(logits, forced, strict=True):
        own = row[len(start) - 1 : len(ids)].log_softmax(-1)
        yield torch.nn.functional.pad(own, (0, 1), value=-torch.inf)[:, decoder.ids]


def _forbidden(model: Any) -> list[int]:
    """Return the ids that the model never writes; for Marian it is padding, whose logit is that of no word."""
    return [ids[0] for ids in model.generation_config.bad_words_ids or () if len(ids) == 1]
