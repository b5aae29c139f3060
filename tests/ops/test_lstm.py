"""The LSTM loops against torch.nn.LSTM, against single steps in plain torch, and by hand."""

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
    """Return a network in float64, whose loops are the plain ones."""
    made = lstm.LSTMNetwork(lstm.NetworkShape(20, layers, 6, dropout)).double()
    made.init_weights(torch.Generator().manual_seed(1))
    return made


def torch_order(weight: Tensor) -> Tensor:
    """Reorder gates from ours (input, forget, output, cell) to torch's (input, forget, cell, output)."""
    i, f, o, g = weight.chunk(4)
    return torch.cat((i, f, g, o))


def test_layer_equals_nn_lstm_in_values_and_gradients() -> None:
    torch.manual_seed(2)
    x = torch.randn(4, 3, 5, dtype=torch.double)
    input_weight = torch.randn(20, 5, dtype=torch.double, requires_grad=True)
    weight = torch.randn(20, 5, dtype=torch.double, requires_grad=True)
    states, cell = lstm_ops.Layer.apply(x @ input_weight.t(), weight, None)  # type: ignore[no-untyped-call]
    peer = torch.nn.LSTM(5, 5, bias=False).double()
    weights = {"weight_ih_l0": input_weight, "weight_hh_l0": weight}
    peer.load_state_dict({name: torch_order(value.detach()) for name, value in weights.items()})
    expected, (_, expected_cell) = peer(x)
    assert states.shape == (4, 3, 5)
    assert cell.shape == (3, 5)
    torch.testing.assert_close(states, expected)
    torch.testing.assert_close(cell, expected_cell[0])
    ours = torch.autograd.grad(states.sin().sum() + cell.cos().sum(), (input_weight, weight))
    trained = [value for _, value in peer.named_parameters()]
    theirs = torch.autograd.grad(expected.sin().sum() + expected_cell.cos().sum(), trained)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(torch_order(one), other)


def test_layer_computes_one_step_as_by_hand() -> None:
    gates = torch.tensor([[[0.0, math.log(3.0), 0.0, 1.0]]])  # input 1/2, forget 3/4, output 1/2, cell tanh 1
    states, cell = lstm_ops.Layer.apply(gates, torch.zeros(4, 1), None)  # type: ignore[no-untyped-call]
    assert cell.item() == pytest.approx(0.5 * math.tanh(1.0))
    assert states.item() == pytest.approx(0.5 * math.tanh(0.5 * math.tanh(1.0)))


def test_attention_computes_one_step_as_by_hand() -> None:
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
def test_decoder_equals_single_steps_in_values_and_gradients(layers: int) -> None:
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
    first_state = lstm.LSTMDecoderState(torch.zeros_like(memory.state[0]), memory.state, memory.cell)
    with torch.no_grad(), net.inference() as ready:
        torch.testing.assert_close(
            ready.step(batch.decoder_input[0], memory, first_state, torch.arange(3)).attn_vector, plain[0]
        )
    trained = [(name, weight) for name, weight in net.named_parameters() if not name.startswith("output")]
    ours = torch.autograd.grad(fast.sin().sum(), [weight for _, weight in trained])
    theirs = torch.autograd.grad(plain.sin().sum(), [weight for _, weight in trained])
    for (name, _), one, other in zip(trained, ours, theirs, strict=True):
        torch.testing.assert_close(one, other, msg=lambda text, name=name: f"{name}: {text}")  # type: ignore[misc]


def test_gradient_with_dropout_matches_finite_differences() -> None:
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


def test_network_gives_a_sentence_the_same_values_alone_and_padded() -> None:
    net = network(2)
    together = net(*batches.collate(TEXT, [0, 1, 2])[1:3])
    for row in range(3):
        alone = net(*batches.collate(TEXT, [row])[1:3])
        torch.testing.assert_close(alone[:, 0], together[: len(alone), row])


def test_padding_changes_neither_loss_nor_gradient() -> None:
    net = network(2)
    plain, results = batches.collate(TEXT, [0, 1, 2]), []
    for batch in (plain, plain.padded(4), plain.padded(11)):
        positions, gold = batch.target_positions()
        loss = losses.nll(net.logits(net(batch.source, batch.decoder_input).flatten(0, 1)[positions]), gold)
        net.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = [weight.grad.flatten() for weight in net.parameters() if weight.grad is not None]
        results.append(torch.cat([loss.detach()[None], *gradients]))
    assert [len(plain.padded(11).source), len(plain.padded(11).labels)] == [11, 11]
    for other in results[1:]:
        torch.testing.assert_close(other, results[0])


def test_batches_are_padded_left_and_right_and_mark_the_target() -> None:
    batch = batches.collate(TEXT, [0, 1])
    assert batch.source.t().tolist() == [[5, 6, 7], [PAD, 8, 9]]
    assert batch.decoder_input.t().tolist() == [[BOS, 5, 6], [BOS, 7, PAD]]
    assert batch.labels.t().tolist() == [[5, 6, EOS], [7, EOS, PAD]]


def test_make_batches_uses_every_row_once_in_batches_of_like_length() -> None:
    text = batches.TokenizedCorpus([[1] * (1 + row * 7 % 5) for row in range(50)], [[1]] * 50)
    planned = batches.make_batches(text, 8, torch.Generator().manual_seed(1))
    assert sorted(row for rows in planned for row in rows) == list(range(50))
    assert list(planned) != list(batches.make_batches(text, 8, torch.Generator().manual_seed(2)))
    spans = [{len(text.sources[row]) for row in rows} for rows in planned]
    assert max(max(span) - min(span) for span in spans) <= 1


def vectors_and_gradients(net: lstm.LSTMNetwork) -> list[Tensor]:
    batch = batches.collate(TEXT, [0, 1, 2])
    vectors = net(batch.source, batch.decoder_input, torch.Generator().manual_seed(5))
    trained = [weight for name, weight in net.named_parameters() if not name.startswith("output")]
    return [vectors, *torch.autograd.grad((vectors * 3).sin().sum(), trained)]


@pytest.mark.slow
@pytest.mark.parametrize(("layers", "hidden", "dropout"), [(1, 6, 0.0), (2, 16, 0.4), (3, 33, 0.4)])
def test_compiled_loops_equal_the_plain_ones_in_values_and_gradients(
    layers: int, hidden: int, dropout: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = lstm.LSTMNetwork(lstm.NetworkShape(20, layers, hidden, dropout))
    net.init_weights(torch.Generator().manual_seed(1))
    compiled = vectors_and_gradients(net)
    monkeypatch.setattr(lstm_cpu, "supports", lambda tensor: False)
    plain = vectors_and_gradients(net)
    assert not all(torch.equal(*pair) for pair in zip(compiled, plain, strict=True)), "both are of the same loops"
    for one, other in zip(compiled, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_backward_runs_the_loops_of_its_forward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = torch.Generator().manual_seed(4)
    inputs = torch.randn(9, 3, 64, generator=draw).requires_grad_()
    weight = torch.randn(64, 16, generator=draw).requires_grad_()

    def gradients(*, supported: bool) -> tuple[Tensor, ...]:
        """supported: what `supports` returns in the backward pass; in the forward pass, True."""
        states, cell = lstm_ops.Layer.apply(inputs, weight, None)  # type: ignore[no-untyped-call]
        with monkeypatch.context() as patch:
            patch.setattr(lstm_cpu, "supports", lambda tensor: supported)
            return torch.autograd.grad((states * 3).sin().sum() + cell.sum(), (inputs, weight))

    for one, other in zip(gradients(supported=True), gradients(supported=False), strict=True):
        assert torch.equal(one, other)


def test_compiled_exp_is_exact_to_float32_over_its_range() -> None:
    x = np.linspace(-86.0, 88.0, 20_001, dtype=np.float32)
    ours = np.array([lstm_cell_cpu.exp(value) for value in x[::50]])
    np.testing.assert_allclose(ours, np.exp(x[::50].astype(np.float64)), rtol=1e-5)
    near = np.linspace(-1.0, 1.0, 401, dtype=np.float32)
    np.testing.assert_allclose([lstm_cell_cpu.exp(value) for value in near], np.exp(near.astype(np.float64)), rtol=3e-7)


def test_target_positions_are_those_of_the_words_padded_to_a_row_multiple() -> None:
    batch = batches.collate(TEXT, [0, 1, 2])
    positions, gold = batch.target_positions(matmul.ROW_MULTIPLE)
    assert len(positions) == matmul.ROW_MULTIPLE
    assert gold.tolist() == batch.labels[batch.labels != PAD].tolist()
    assert batch.labels.flatten()[positions[: len(gold)]].tolist() == gold.tolist()
    assert set(positions[len(gold) :].tolist()) == {0}


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_decoder_step_without_autograd_equals_the_plain_one(layers: int) -> None:
    """A GPU's step of a search, here on a CPU with two rows a sentence."""
    net = network(layers)
    memory = net.encode(batches.collate(TEXT, [0, 1, 2]).source)
    draw = torch.Generator().manual_seed(4)
    last = [torch.randn(*size, 6, 6, generator=draw).double()[..., :6] for size in ((), (layers,), (layers,))]
    words = torch.randn(6, 24, generator=draw).double()
    with torch.no_grad():
        result = lstm_ops.decoder_step(
            words, memory[:3], last, list(net.decoder), list(net.decoder_bias)[1:], net.combine
        )
    for one, other in zip(result, net.step(words, memory, lstm.LSTMDecoderState(*last)), strict=True):
        torch.testing.assert_close(one, other)
