"""On a GPU: the same values, gradients, searches and trainings as on a CPU. Skipped if torch finds no GPU."""

from types import ModuleType

import pytest
import torch
from networks import MANY, random_network
from torch import Tensor
from trainings import TEXT, flat, job, network, settings

from seqkd.config.machine import Machine
from seqkd.data import batches
from seqkd.decoding import beam_search, beam_search_cuda
from seqkd.models import lstm
from seqkd.models.losses import TopK, word_kd
from seqkd.ops import devices, lstm_cell, matmul
from seqkd.ops.cuda import lstm_cell as lstm_cell_cuda
from seqkd.ops.matmul import Precision
from seqkd.training import pruning, trainer
from seqkd.training.graphed_forward import GraphedForward

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU here")]
GPU = Machine(processes=1, device="cuda")
CLOSE = {torch.float32: 2e-6, torch.bfloat16: 1e-2}
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
ROWS, HIDDEN, SOURCE = 6, 37, 5


def drawn(*size: int) -> Tensor:
    return torch.randn(*size, device="cuda", generator=torch.Generator("cuda").manual_seed(sum(size)))


def zeros(*size: int, kind: torch.dtype = torch.float32) -> Tensor:
    return torch.zeros(*size, device="cuda", dtype=kind)


def arguments(kind: torch.dtype, mask: Tensor | None, dropout_mask: Tensor | None) -> dict[str, list[Tensor | None]]:
    """Return arguments of every lstm_cell function; what matrix products read is a view of something larger."""

    def half(*, left: bool) -> Tensor:
        both = zeros(ROWS, 2 * HIDDEN, kind=kind)
        return both[:, :HIDDEN] if left else both[:, HIDDEN:]

    state, gates = drawn(ROWS, HIDDEN), drawn(ROWS, 4 * HIDDEN)
    new_cell, tanh_cell, new_state = (zeros(ROWS, HIDDEN) for _ in range(3))
    mask_bias = zeros(ROWS // 2, SOURCE)
    mask_bias[1, :2] = lstm.MASK_BIAS
    keys, states = drawn(ROWS // 2, SOURCE, HIDDEN), drawn(ROWS // 2, SOURCE, HIDDEN).tanh()
    weights, grad_scores = drawn(ROWS // 2, SOURCE).softmax(-1), drawn(ROWS // 2, SOURCE)
    grad_next_input, grad_state = torch.split(drawn(ROWS, 2 * HIDDEN), HIDDEN, 1)
    saved = gates.sigmoid(), mask, state, state.tanh()
    return {
        "cell": [
            *(gates.clone(), gates[:1], mask, state, new_cell, tanh_cell),
            *(new_state, half(left=False), half(left=True), dropout_mask),
        ],
        "cell_backward": [
            *(*saved, grad_next_input, dropout_mask, grad_state, drawn(ROWS, HIDDEN)),
            zeros(ROWS, 4 * HIDDEN, kind=kind),
        ],
        "attend": [drawn(ROWS, 2 * HIDDEN).to(kind), keys, states, mask_bias, drawn(ROWS, SOURCE)],
        "attend_backward": [
            *(drawn(ROWS // 2, 2 * HIDDEN), weights, keys, states, grad_scores, drawn(ROWS // 2, HIDDEN))
        ],
        "attn_output": [state.clone(), dropout_mask, zeros(ROWS, HIDDEN), half(left=True)],
        "attn_output_backward": [*(state, grad_next_input, dropout_mask, state.tanh(), zeros(ROWS, HIDDEN, kind=kind))],
    }


@pytest.mark.parametrize("kind", CLOSE)
@pytest.mark.parametrize("with_all", [False, True])
def test_kernels_equal_the_plain_operations(kind: torch.dtype, with_all: bool) -> None:
    assert lstm_cell_cuda.available()
    mask = (drawn(ROWS, 1) > 0).float() if with_all else None
    dropout_mask = (drawn(ROWS, HIDDEN) > 0).float() * 2 if with_all else None

    def written(ops: ModuleType, name: str) -> list[Tensor]:
        tensors = arguments(kind, mask, dropout_mask)[name]
        getattr(ops, name)(*tensors)
        return [tensor for tensor in tensors if tensor is not None]

    for name in arguments(kind, mask, dropout_mask):
        for one, other in zip(written(lstm_cell_cuda, name), written(lstm_cell, name), strict=True):
            torch.testing.assert_close(one, other, rtol=CLOSE[kind], atol=CLOSE[kind])


@pytest.mark.skipif(not matmul.FP32_RESULTS, reason="this torch rounds results too")
def test_matmul_nt_in_bf16_rounds_inputs_and_not_results() -> None:
    x, weight, bias = drawn(96, 400), drawn(80, 400), drawn(1, 80)[0]
    exact = x.bfloat16().double() @ weight.bfloat16().double().t() + bias.double()
    devices.configure(GPU, "bf16")
    for keep_fp32 in (False, True):
        result = matmul.matmul_nt(x, weight, bias, keep_fp32=keep_fp32)
        torch.testing.assert_close(result.double(), exact, rtol=1e-5, atol=1e-4)
    devices.configure(GPU)
    torch.testing.assert_close(matmul.matmul_nt(x, weight, bias), torch.addmm(bias, x, weight.t()))


def vectors_and_gradients(
    net: lstm.LSTMNetwork, source: Tensor, decoder_input: Tensor, *, graphed: bool = False
) -> list[Tensor]:
    """Return the vectors of a batch and all gradients, on the CPU; graphed: those of a replayed CUDA graph."""
    forward = GraphedForward(net, source.shape[1]) if graphed else net
    for _ in range(3 if graphed else 1):
        net.zero_grad()
        vectors = forward(source, decoder_input)
        values = vectors.detach().cpu()
        (net.logits(vectors).sin().sum() + vectors.cos().sum()).backward()  # type: ignore[no-untyped-call]
        del vectors  # no CUDA graph is captured while the autograd graph of an earlier pass is alive
    return [values, *(weight.grad.clone().cpu() for weight in net.parameters() if weight.grad is not None)]


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_network_equals_a_cpus_in_values_and_gradients(layers: int, own: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lstm_cell_cuda, "supports", lambda tensor: own and tensor.is_cuda)
    devices.configure(GPU)
    net = lstm.LSTMNetwork(lstm.NetworkShape(20, layers, 24, 0.0))
    net.init_weights(torch.Generator().manual_seed(1), init_range=0.5)
    batch = batches.collate(batches.TokenizedCorpus([[5, 6, 7], [8, 9], [4]], [[5, 6], [7], [8, 9, 10, 11]]), [0, 1, 2])
    expected = vectors_and_gradients(net.double(), batch.source, batch.decoder_input)
    net.float().to("cuda")
    batch = batch.to(torch.device("cuda"))
    for graphed in (False, True):
        result = vectors_and_gradients(net, batch.source, batch.decoder_input, graphed=graphed)
        assert len(result) == len(expected) == 1 + len(list(net.parameters()))
        for one, other in zip(result, expected, strict=True):
            torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=2e-5)


def test_bf16_changes_values_and_gradients_by_little() -> None:
    devices.configure(GPU)
    net = network(dropout=0.0).to("cuda")
    batch = batches.collate(TEXT, range(8)).to(torch.device("cuda"))
    exact = vectors_and_gradients(net, batch.source, batch.decoder_input)
    devices.configure(GPU, "bf16")
    rounded = vectors_and_gradients(net, batch.source, batch.decoder_input)
    devices.configure(GPU)
    assert not torch.equal(rounded[0], exact[0])
    for one, other in zip(rounded, exact, strict=True):
        assert float((one - other).norm() / other.norm()) < 0.05


@pytest.mark.parametrize("beam", [1, 5, 12])
@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_beam_search_finds_what_a_cpus_finds(beam: int, length_penalty: float) -> None:
    devices.configure(GPU)
    net = random_network(vocab_size=40, init_range=5.0)
    expected = beam_search.decode(net, MANY, beam=beam, nbest=beam, length_penalty=length_penalty)
    net.float().to("cuda")
    with net.inference() as ready:
        for _ in range(2):
            result = beam_search.decode(net, MANY, beam=beam, nbest=beam, length_penalty=length_penalty)
            pairs = list(zip(result, expected, strict=True))
            assert all(len(one) == len(other) for one, other in pairs)
            scores = [[[item.logprob for item in items] for items in pair] for pair in pairs]
            alike = sum(one == pytest.approx(other, rel=1e-4) for one, other in scores)
            same = sum(one[0].ids == other[0].ids for one, other in pairs)
            assert min(alike, same) >= len(MANY) - 3  # float32 breaks a tie now and then
        assert ready.graph_cache


@pytest.mark.parametrize("beam", [1, 5])
def test_beam_search_in_bf16_scores_nearly_as_in_fp32(beam: int) -> None:
    net = random_network(vocab_size=40, init_range=3.0).float().to("cuda")
    scores = []
    for precision in PRECISIONS:
        devices.configure(GPU, precision)
        scores.append([items[0].logprob for items in beam_search.decode(net, MANY, beam=beam)])
    devices.configure(GPU)
    assert scores[0] != scores[1]
    assert sum(one == pytest.approx(other, rel=0.03) for one, other in zip(*scores, strict=True)) > 0.8 * len(MANY)


def test_beam_search_takes_fewer_sentences_at_once_if_memory_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    net = random_network(vocab_size=40, init_range=5.0).float().to("cuda")
    expected = beam_search.decode(net, MANY, beam=5)
    make = beam_search_cuda.StaticBeam.__init__

    def small(self: beam_search_cuda.StaticBeam, *given: object, sentences: int, **other: int) -> None:
        if sentences > 8:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        make(self, *given, sentences=sentences, **other)  # type: ignore[arg-type]

    monkeypatch.setattr(beam_search_cuda.StaticBeam, "__init__", small)
    result = beam_search.decode(net, MANY, beam=5, batch_sizer=beam_search.BatchSizer(1500))
    assert [items[0].ids for items in result] == [items[0].ids for items in expected]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_learns_and_repeats_bit_for_bit(precision: Precision) -> None:
    device, options = devices.configure(GPU, precision), settings(epochs=40, learning_rate=0.02, batch_size=4)
    nets = [network(dropout=0.05).to(device) for _ in range(2)]
    curves = [trainer.train(net, job(settings=options), GPU) for net in nets]
    devices.configure(GPU)
    assert curves[0] == curves[1]
    assert torch.equal(flat(nets[0]), flat(nets[1]))
    assert curves[0][-1].dev_perplexity < 2.5


def test_training_without_dropout_equals_a_cpus() -> None:
    one, other, options = network(dropout=0.0), network(dropout=0.0).to("cuda"), settings(shards=1)
    on_cpu = trainer.train(one, job(settings=options), Machine(processes=1, device="cpu"))
    on_gpu = trainer.train(other, job(settings=options), GPU)
    assert [epoch.dev_perplexity for epoch in on_gpu] == pytest.approx(
        [epoch.dev_perplexity for epoch in on_cpu], rel=1e-3
    )


def test_training_with_word_kd_keeps_pruned_weights_zero() -> None:
    net, teacher = network().to("cuda"), network(seed=2).to("cuda")
    mask = pruning.mask(net, 0.5)
    pruning.apply(net, mask)
    trainer.train(net, job(mask=mask, alpha=0.5, teacher=teacher), GPU)
    assert not flat(net)[~mask.to("cuda")].any()


def test_word_kd_of_the_top_k_equals_a_cpus() -> None:
    logits, gold = torch.randn(7, 20), torch.arange(7)
    top_k = TopK(torch.stack([torch.randperm(20)[:4] for _ in range(7)]), torch.rand(7, 5).softmax(-1))
    results = []
    for device in ("cpu", "cuda"):
        leaf = logits.to(device, copy=True).requires_grad_()
        loss = word_kd(leaf * 1.0, gold.to(device), TopK(*(part.to(device) for part in top_k)), alpha=0.5)
        loss.backward()  # type: ignore[no-untyped-call]
        assert leaf.grad is not None
        results.append((float(loss.detach()), leaf.grad.cpu()))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-5)
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-4, atol=1e-6)
