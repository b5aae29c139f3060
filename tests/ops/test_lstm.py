"""The hand-written loops against torch.nn.LSTM, against the plain step, and by hand."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from seqkd.data import batches
from seqkd.data.vocab import BOS, EOS, PAD
from seqkd.models import losses, lstm
from seqkd.ops import lstm as lstm_ops
from seqkd.ops import matmul
from seqkd.ops.cpu import lstm as lstm_cpu
from seqkd.ops.cpu import lstm_cell as lstm_cell_cpu

TEXT = batches.TokenizedCorpus([[5, 6, 7], [8, 9], [4]], [[5, 6], [7], [8, 9, 10, 11]])


def network(layers: int, dropout: float = 0.0) -> lstm.LSTMNetwork:
    made = lstm.LSTMNetwork(lstm.NetworkShape(20, layers, 6, dropout)).double()
    made.init_weights(torch.Generator().manual_seed(1))
    return made


def reordered(weight: Tensor) -> Tensor:
    """Gates from our order (input, forget, output, candidate) to torch's (input, forget, candidate, output)."""
    enter, keep, show, candidate = weight.chunk(4)
    return torch.cat((enter, keep, candidate, show))


def test_a_layer_equals_nn_lstm_in_values_and_gradients() -> None:
    torch.manual_seed(2)
    x = torch.randn(4, 3, 5, dtype=torch.double)
    into = torch.randn(20, 5, dtype=torch.double, requires_grad=True)
    weight = torch.randn(20, 5, dtype=torch.double, requires_grad=True)
    states, cell = lstm_ops.Layer.apply(x @ into.t(), weight, None)  # type: ignore[no-untyped-call]
    lstm = torch.nn.LSTM(5, 5, bias=False).double()
    lstm.load_state_dict({"weight_ih_l0": reordered(into.detach()), "weight_hh_l0": reordered(weight.detach())})
    expected, (_, expected_cell) = lstm(x)
    assert states.shape == (4, 3, 5)
    assert cell.shape == (3, 5)
    torch.testing.assert_close(states, expected)
    torch.testing.assert_close(cell, expected_cell[0])
    ours = torch.autograd.grad(states.sin().sum() + cell.cos().sum(), (into, weight))
    trained = [weight for _, weight in lstm.named_parameters()]
    theirs = torch.autograd.grad(expected.sin().sum() + expected_cell.cos().sum(), trained)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(reordered(one), other)


def test_one_lstm_step_by_hand() -> None:
    gates = torch.tensor([[[0.0, math.log(3.0), 0.0, 1.0]]])  # input 1/2, forget 3/4, output 1/2, candidate tanh 1
    states, cell = lstm_ops.Layer.apply(gates, torch.zeros(4, 1), None)  # type: ignore[no-untyped-call]
    assert cell.item() == pytest.approx(0.5 * math.tanh(1.0))
    assert states.item() == pytest.approx(0.5 * math.tanh(0.5 * math.tanh(1.0)))


def test_one_attention_step_by_hand() -> None:
    """Two source states, scores h W s, their softmax, and tanh of the combined vector."""
    net = network(1)
    memory = lstm.LSTMEncoderOutput(
        states=torch.tensor([[[1.0] * 6, [3.0] * 6]]).double(),
        keys=torch.tensor([[[0.0] * 6, [1.0] * 6]]).double(),
        mask_bias=torch.zeros(1, 1, 2).double(),
        state=torch.zeros(1, 1, 6).double(),
        cell=torch.zeros(1, 1, 6).double(),
    )
    with torch.no_grad():
        net.combine.zero_()
        net.combine[:, :6] = torch.eye(6) * 0.1
        step = net.step(
            torch.zeros(1, 24).double(), memory, lstm.LSTMDecoderState(memory.state[0], memory.state, memory.cell + 1.0)
        )
    score = 6 * float(step.state[0, 0, 0])
    second = math.exp(score) / (1.0 + math.exp(score))
    assert step.state[0, 0, 0].item() == pytest.approx(0.5 * math.tanh(0.5))
    assert step.attn_vector[0, 0].item() == pytest.approx(math.tanh(0.1 * (1.0 * (1 - second) + 3.0 * second)))


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_decoder_loop_equals_the_plain_steps_in_values_and_gradients(layers: int) -> None:
    net = network(layers)
    batch = batches.collate(TEXT, [0, 1, 2])
    fast = net(batch.source, batch.decoder_input)
    memory = net.encode(batch.source)
    table = net.target_embedding @ net.decoder_word.t() + net.decoder_bias[0]
    step, vectors = lstm.LSTMDecoderState(torch.zeros_like(memory.state[0]), memory.state, memory.cell), []
    for words in batch.decoder_input:
        step = net.step(table[words], memory, step)
        vectors.append(step.attn_vector)
    plain = torch.stack(vectors)
    assert fast.shape == (5, 3, 6)
    torch.testing.assert_close(fast, plain)
    begun = lstm.LSTMDecoderState(torch.zeros_like(memory.state[0]), memory.state, memory.cell)
    with torch.no_grad(), net.inference() as ready:
        torch.testing.assert_close(
            ready.step(batch.decoder_input[0], memory, begun, torch.arange(3)).attn_vector, plain[0]
        )
    trained = [(name, weight) for name, weight in net.named_parameters() if not name.startswith("output")]
    ours = torch.autograd.grad(fast.sin().sum(), [weight for _, weight in trained])
    theirs = torch.autograd.grad(plain.sin().sum(), [weight for _, weight in trained])
    for (name, _), one, other in zip(trained, ours, theirs, strict=True):
        torch.testing.assert_close(one, other, msg=lambda text, name=name: f"{name}: {text}")  # type: ignore[misc]


def test_the_gradient_with_dropout_matches_finite_differences() -> None:
    net = network(2, dropout=0.5)
    batch = batches.collate(TEXT, [0, 2])

    def loss() -> Tensor:
        vectors: Tensor = net(batch.source, batch.decoder_input, torch.Generator().manual_seed(5))
        return vectors.sin().sum()

    weights = [net.decoder[0], net.decoder[1], net.combine, net.encoder_state[1], net.attention, net.source_embedding]
    for weight, gradient in zip(weights, torch.autograd.grad(loss(), weights), strict=True):
        at = int(gradient.abs().argmax())
        with torch.no_grad():
            weight.view(-1)[at] += 1e-5
            above = loss()
            weight.view(-1)[at] -= 2e-5
            below = loss()
            weight.view(-1)[at] += 1e-5
        assert float(gradient.reshape(-1)[at]) == pytest.approx(float(above - below) / 2e-5, rel=1e-5)


def test_a_sentence_reads_the_same_alone_and_padded() -> None:
    net = network(2)
    together = net(*batches.collate(TEXT, [0, 1, 2])[1:3])
    for row in range(3):
        alone = net(*batches.collate(TEXT, [row])[1:3])
        torch.testing.assert_close(alone[:, 0], together[: len(alone), row])


def test_more_padding_changes_neither_loss_nor_gradient() -> None:
    net = network(2)
    plain, found = batches.collate(TEXT, [0, 1, 2]), []
    for batch in (plain, plain.padded(4), plain.padded(11)):
        places, gold = batch.target_positions()
        loss = losses.nll(net.logits(net(batch.source, batch.decoder_input).flatten(0, 1)[places]), gold)
        net.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        found.append(
            torch.cat([loss.detach()[None], *(it.grad.flatten() for it in net.parameters() if it.grad is not None)])
        )
    assert [len(plain.padded(11).source), len(plain.padded(11).labels)] == [11, 11]
    for other in found[1:]:
        torch.testing.assert_close(other, found[0])


def test_batches_are_padded_left_and_right_with_marks_on_the_target() -> None:
    batch = batches.collate(TEXT, [0, 1])
    assert batch.source.t().tolist() == [[5, 6, 7], [PAD, 8, 9]]
    assert batch.decoder_input.t().tolist() == [[BOS, 5, 6], [BOS, 7, PAD]]
    assert batch.labels.t().tolist() == [[5, 6, EOS], [7, EOS, PAD]]


def test_a_plan_holds_every_row_once_in_batches_alike_in_length() -> None:
    text = batches.TokenizedCorpus([[1] * (1 + row * 7 % 5) for row in range(50)], [[1]] * 50)
    planned = batches.make_batches(text, 8, torch.Generator().manual_seed(1))
    assert sorted(row for rows in planned for row in rows) == list(range(50))
    assert planned != batches.make_batches(text, 8, torch.Generator().manual_seed(2))
    spans = [{len(text.sources[row]) for row in rows} for rows in planned]
    assert max(max(span) - min(span) for span in spans) <= 1
    dealt = [list(batches.shard(planned, rank, 3)) for rank in range(3)]
    assert sorted(row for share in dealt for rows in share for row in rows) == list(range(50))


@pytest.mark.parametrize(("layers", "hidden", "dropout"), [(1, 6, 0.0), (2, 16, 0.4), (3, 33, 0.4)])
def test_the_compiled_loops_equal_the_plain_ones_in_values_and_gradients(
    layers: int, hidden: int, dropout: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = lstm.LSTMNetwork(lstm.NetworkShape(20, layers, hidden, dropout))
    net.init_weights(torch.Generator().manual_seed(1))
    batch = batches.collate(TEXT, [0, 1, 2])
    found = []
    for usable in (True, False):
        monkeypatch.setattr(lstm_cpu, "supports", lambda tensor, usable=usable: usable)
        vectors = net(batch.source, batch.decoder_input, torch.Generator().manual_seed(5))
        trained = [weight for name, weight in net.named_parameters() if not name.startswith("output")]
        found.append([vectors, *torch.autograd.grad((vectors * 3).sin().sum(), trained)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_the_compiled_exp_is_exact_to_float32_over_its_range() -> None:
    x = np.linspace(-86.0, 88.0, 20_001, dtype=np.float32)
    ours = np.array([lstm_cell_cpu.exp(value) for value in x[::50]])
    np.testing.assert_allclose(ours, np.exp(x[::50].astype(np.float64)), rtol=1e-5)
    near = np.linspace(-1.0, 1.0, 401, dtype=np.float32)
    np.testing.assert_allclose([lstm_cell_cpu.exp(value) for value in near], np.exp(near.astype(np.float64)), rtol=3e-7)


def test_the_words_of_a_batch_are_found_where_they_stand_and_filled_up_to_an_even_number() -> None:
    batch = batches.collate(TEXT, [0, 1, 2])
    places, gold = batch.target_positions(matmul.ROW_MULTIPLE)
    assert len(places) == matmul.ROW_MULTIPLE
    assert gold.tolist() == batch.labels[batch.labels != PAD].tolist()
    assert batch.labels.flatten()[places[: len(gold)]].tolist() == gold.tolist()
    assert set(places[len(gold) :].tolist()) == {0}


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_step_of_a_search_on_a_gpu_is_the_plain_one(layers: int) -> None:
    """The same code on a CPU, two rows a sentence."""
    net = network(layers)
    memory = net.encode(batches.collate(TEXT, [0, 1, 2]).source)
    draw = torch.Generator().manual_seed(4)
    last = [torch.randn(*size, 6, 6, generator=draw).double()[..., :6] for size in ((), (layers,), (layers,))]
    words = torch.randn(6, 24, generator=draw).double()
    with torch.no_grad():
        found = lstm_ops.decoder_step(
            words, memory[:3], last, list(net.decoder), list(net.decoder_bias)[1:], net.combine
        )
    for one, other in zip(found, net.step(words, memory, lstm.LSTMDecoderState(*last)), strict=True):
        torch.testing.assert_close(one, other)
