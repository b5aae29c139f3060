"""The paper's network as most would write it in torch: nn.LSTM, nn.LSTMCell, a loop over words, nothing fused.

It takes our weights, so that both train and translate the same network. Sizes in comments: B sentences, S source and T
target positions, H hidden units, V pieces.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from seqkd.data.vocab import BOS, EOS, PAD
from seqkd.models.lstm import LSTMNetwork

State = tuple[Tensor, list[tuple[Tensor, Tensor]]]  # what is fed back (B, H), and each layer's state and cell


class Plain(nn.Module):
    def __init__(self, network: LSTMNetwork) -> None:
        super().__init__()
        vocab, layers, hidden = network.shape[:3]
        self.source, self.target = nn.Embedding(vocab, hidden, PAD), nn.Embedding(vocab, hidden, PAD)
        self.encoder = nn.LSTM(hidden, hidden, layers)
        self.decoder = nn.ModuleList(nn.LSTMCell(hidden if layer else 2 * hidden, hidden) for layer in range(layers))
        self.attention = nn.Linear(hidden, hidden, bias=False)
        self.combine, self.output = nn.Linear(2 * hidden, hidden, bias=False), nn.Linear(hidden, vocab)
        with torch.no_grad():
            self._copy(network)

    def _copy(self, network: LSTMNetwork) -> None:
        """Takes over our weights."""

        def gates(weight: Tensor) -> Tensor:  # ours: input, forget, output, candidate; torch's: output last
            enter, forget, show, candidate = weight.chunk(4)
            return torch.cat((enter, forget, candidate, show))

        hidden = network.shape.hidden
        pairs: list[tuple[Any, Tensor]] = [
            (self.source.weight, network.source_embedding),
            (self.target.weight, network.target_embedding),
            (self.attention.weight, network.attention),
            (self.combine.weight, network.combine),
            (self.output.weight, network.output),
            (self.output.bias, network.output_bias),
        ]
        for layer in range(network.shape.layers):
            cell: Any = self.decoder[layer]
            both = network.decoder[layer]
            inputs = both[:, :hidden] if layer else torch.cat((network.decoder_word, both[:, :hidden]), 1)
            pairs += [
                (getattr(self.encoder, f"weight_ih_l{layer}"), gates(network.encoder_input[layer])),
                (getattr(self.encoder, f"weight_hh_l{layer}"), gates(network.encoder_state[layer])),
                (getattr(self.encoder, f"bias_ih_l{layer}"), gates(network.encoder_bias[layer])),
                (cell.weight_ih, gates(inputs)),
                (cell.weight_hh, gates(both[:, hidden:])),
                (cell.bias_ih, gates(network.decoder_bias[layer])),
            ]
            getattr(self.encoder, f"bias_hh_l{layer}").zero_()
            cell.bias_hh.zero_()
        for mine, theirs in pairs:
            mine.copy_(theirs)

    def encode(self, source: Tensor) -> tuple[Tensor, Tensor, State]:
        """source: (S, B), padded on the right -> states (B, S, H), closed (B, S), the decoder's first state."""
        lengths = (source != PAD).sum(0).cpu()
        packed = pack_padded_sequence(self.source(source), lengths, enforce_sorted=False)
        states, (state, cell) = self.encoder(packed)
        memory = pad_packed_sequence(states)[0].transpose(0, 1)
        return memory, (source == PAD).t(), (torch.zeros_like(state[0]), list(zip(state, cell, strict=True)))

    def step(self, word: Tensor, memory: Tensor, closed: Tensor, last: State) -> State:
        """word: (B,) ids."""
        attn_vector, states = last
        below, new = torch.cat((self.target(word), attn_vector), 1), []
        for cell, state in zip(self.decoder, states, strict=True):
            new.append(cell(below, state))
            below = new[-1][0]
        scores = torch.bmm(memory, self.attention(below)[:, :, None])[:, :, 0].masked_fill(closed, float("-inf"))
        context = torch.bmm(F.softmax(scores, 1)[:, None], memory)[:, 0]
        return torch.tanh(self.combine(torch.cat((context, below), 1))), new

    def loss(self, source: Tensor, decoder_input: Tensor, expected: Tensor) -> Tensor:
        """NLL summed over words; (S, B) padded on the right, (T, B), (T, B)."""
        memory, closed, last = self.encode(source)
        vectors = []
        for word in decoder_input:
            last = self.step(word, memory, closed, last)
            vectors.append(last[0])
        logits = self.output(torch.stack(vectors))
        return F.cross_entropy(logits.flatten(0, 1), expected.flatten(), ignore_index=PAD, reduction="sum")


def _padded(sentences: Sequence[Sequence[int]]) -> Tensor:
    return nn.utils.rnn.pad_sequence([torch.tensor(ids) for ids in sentences], padding_value=PAD)


class Training:
    """Adam on Plain."""

    def __init__(self, network: LSTMNetwork, rate: float, device: str = "cpu") -> None:
        self.plain, self.device = Plain(network).to(device), device
        self.optimizer = torch.optim.Adam(self.plain.parameters(), lr=rate)

    def update(self, sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]) -> float:
        """One step on a batch; returns the summed loss."""
        expected = _padded([[*ids, EOS] for ids in targets]).to(self.device)
        decoder_input = _padded([[BOS, *ids] for ids in targets]).to(self.device)
        loss = self.plain.loss(_padded(sources).to(self.device), decoder_input, expected)
        self.optimizer.zero_grad()
        (loss / (expected != PAD).sum()).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.plain.parameters(), 5.0)
        self.optimizer.step()
        return float(loss.detach())


@torch.no_grad()
def greedy(plain: Plain, sources: Sequence[Sequence[int]], *, batch_size: int) -> Iterator[list[int]]:
    """The likeliest word at each step until every sentence of a batch has ended; sentences in the order given."""
    device = plain.output.weight.device
    for at in range(0, len(sources), batch_size):
        some = sources[at : at + batch_size]
        memory, closed, last = plain.encode(_padded(some).to(device))
        word, words = torch.full((len(some),), BOS, device=device), []
        ended = torch.zeros(len(some), dtype=torch.bool, device=device)
        for _ in range(2 * max(map(len, some)) + 10):
            last = plain.step(word, memory, closed, last)
            logits = plain.output(last[0])
            logits[:, [PAD, BOS]] = float("-inf")
            word = logits.argmax(1)
            words.append(word)
            ended |= word == EOS
            if bool(ended.all()):
                break
        for ids in torch.stack(words, 1).tolist():
            yield ids[: ids.index(EOS)] if EOS in ids else ids
