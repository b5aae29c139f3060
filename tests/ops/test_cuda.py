"""On a GPU: the same values, gradients, searches and trainings as on a CPU. Skipped where there is none."""

from types import ModuleType

import pytest
import torch
from networks import MANY, random_network
from torch import Tensor
from trainings import TEXT, flat, lesson, network, settings

from seqkd.config.schema import Machine
from seqkd.data import batches
from seqkd.decoding import beam_search, beam_search_cuda
from seqkd.models import lstm
from seqkd.models.losses import TopK, word_kd
from seqkd.ops import devices, lstm_cell, matmul
from seqkd.ops.cuda import graphs
from seqkd.ops.cuda import lstm_cell as lstm_cell_cuda
from seqkd.ops.matmul import Precision
from seqkd.training import pruning, trainer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU here")
GPU = Machine(processes=1, device="cuda")
CLOSE = {torch.float32: 2e-6, torch.bfloat16: 1e-2}
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
ROWS, HIDDEN, SOURCE = 6, 37, 5


def drawn(*size: int) -> Tensor:
    return torch.randn(*size, device="cuda", generator=torch.Generator("cuda").manual_seed(sum(size)))


def calls(kind: torch.dtype, live: Tensor | None, keep: Tensor | None) -> dict[str, list[Tensor | None]]:
    """Arguments of every lstm_cell function, those that it writes views of something larger."""

    def half(*, left: bool) -> Tensor:
        whole = torch.zeros(ROWS, 2 * HIDDEN, device="cuda", dtype=kind)
        return whole[:, :HIDDEN] if left else whole[:, HIDDEN:]

    flat, wide = drawn(ROWS, HIDDEN), drawn(ROWS, 4 * HIDDEN)
    places = [torch.zeros(ROWS, HIDDEN, device="cuda") for _ in range(3)]
    closed = torch.zeros(ROWS // 2, SOURCE, device="cuda")
    closed[1, :2] = lstm.MASK_BIAS
    keys, memory = drawn(ROWS // 2, SOURCE, HIDDEN), drawn(ROWS // 2, SOURCE, HIDDEN).tanh()
    shares = drawn(ROWS // 2, SOURCE).softmax(-1)
    halves = torch.split(drawn(ROWS, 2 * HIDDEN), HIDDEN, 1)
    return {
        "cell": [wide.clone(), wide[:1], live, flat, *places, half(left=False), half(left=True), keep],
        "cell_backward": [
            *(wide.sigmoid(), live, flat, flat.tanh(), halves[0], keep, halves[1], drawn(ROWS, HIDDEN)),
            torch.zeros(ROWS, 4 * HIDDEN, device="cuda", dtype=kind),
        ],
        "attend": [drawn(ROWS, 2 * HIDDEN).to(kind), keys, memory, closed, drawn(ROWS, SOURCE)],
        "attend_backward": [
            *(drawn(ROWS // 2, 2 * HIDDEN), shares, keys, memory, drawn(ROWS // 2, SOURCE), drawn(ROWS // 2, HIDDEN))
        ],
        "squash": [flat.clone(), keep, places[0], half(left=True)],
        "squash_backward": [flat, halves[0], keep, flat.tanh(), torch.zeros(ROWS, HIDDEN, device="cuda", dtype=kind)],
    }


@pytest.mark.parametrize("kind", CLOSE)
@pytest.mark.parametrize("with_all", [False, True])
def test_the_kernels_are_the_plain_operations(kind: torch.dtype, with_all: bool) -> None:
    assert lstm_cell_cuda.available()
    live = (drawn(ROWS, 1) > 0).float() if with_all else None
    keep = (drawn(ROWS, HIDDEN) > 0).float() * 2 if with_all else None

    def after(room: ModuleType, name: str) -> list[Tensor]:
        given = calls(kind, live, keep)[name]
        getattr(room, name)(*given)
        return [it for it in given if it is not None]

    for name in calls(kind, live, keep):
        for one, other in zip(after(lstm_cell_cuda, name), after(lstm_cell, name), strict=True):
            torch.testing.assert_close(one, other, rtol=CLOSE[kind], atol=CLOSE[kind])


@pytest.mark.skipif(not matmul.FP32_RESULTS, reason="this torch rounds results too")
def test_a_product_in_bf16_rounds_what_it_reads_and_not_what_it_gives() -> None:
    x, weight, bias = drawn(96, 400), drawn(80, 400), drawn(1, 80)[0]
    exact = x.bfloat16().double() @ weight.bfloat16().double().t() + bias.double()
    devices.configure(GPU, "bf16")
    for whole in (False, True):
        found = matmul.matmul_nt(x, weight, bias, whole=whole)
        torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-4)
    devices.configure(GPU)
    torch.testing.assert_close(matmul.matmul_nt(x, weight, bias), torch.addmm(bias, x, weight.t()))


def of(net: lstm.LSTMNetwork, source: Tensor, decoder_input: Tensor, *, recorded: bool = False) -> list[Tensor]:
    """The vectors of a batch and all gradients, on the CPU; recorded: the second time, as a replayed record."""
    read = graphs.GraphedForward(net, source.shape[1]) if recorded else net
    for _ in range(3 if recorded else 1):
        net.zero_grad()
        vectors = read(source, decoder_input)
        found = vectors.detach().cpu()
        (net.logits(vectors).sin().sum() + vectors.cos().sum()).backward()  # type: ignore[no-untyped-call]
        del vectors  # no record is made while the graph of an earlier pass lives
    return [found, *(weight.grad.clone().cpu() for weight in net.parameters() if weight.grad is not None)]


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_values_and_gradients_are_those_of_a_cpu(layers: int, own: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lstm_cell_cuda, "supports", lambda tensor: own and tensor.is_cuda)
    devices.configure(GPU)
    net = lstm.LSTMNetwork(lstm.NetworkShape(20, layers, 24, 0.0))
    net.init_weights(torch.Generator().manual_seed(1), init_range=0.5)
    batch = batches.collate(batches.TokenizedCorpus([[5, 6, 7], [8, 9], [4]], [[5, 6], [7], [8, 9, 10, 11]]), [0, 1, 2])
    expected = of(net.double(), batch.source, batch.decoder_input)
    net.float().to("cuda")
    batch = batch.to(torch.device("cuda"))
    for recorded in (False, True):
        found = of(net, batch.source, batch.decoder_input, recorded=recorded)
        assert len(found) == len(expected) == 1 + len(list(net.parameters()))
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=2e-5)


def test_bf16_rounds_but_little() -> None:
    devices.configure(GPU)
    net = network(dropout=0.0).to("cuda")
    batch = batches.collate(TEXT, range(8)).to(torch.device("cuda"))
    exact = of(net, batch.source, batch.decoder_input)
    devices.configure(GPU, "bf16")
    rounded = of(net, batch.source, batch.decoder_input)
    devices.configure(GPU)
    assert not torch.equal(rounded[0], exact[0])
    for one, other in zip(rounded, exact, strict=True):
        assert float((one - other).norm() / other.norm()) < 0.05


@pytest.mark.parametrize("beam", [1, 5, 12])
@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_a_search_finds_what_a_cpu_finds(beam: int, length_penalty: float) -> None:
    devices.configure(GPU)
    net = random_network(vocab=40, init_range=5.0)
    expected = beam_search.decode(net, MANY, beam=beam, nbest=beam, length_penalty=length_penalty)
    net.float().to("cuda")
    with net.inference() as ready:
        for _ in range(2):
            found = beam_search.decode(net, MANY, beam=beam, nbest=beam, length_penalty=length_penalty)
            pairs = list(zip(found, expected, strict=True))
            assert all(len(one) == len(other) for one, other in pairs)
            scores = [[[item.logprob for item in items] for items in pair] for pair in pairs]
            alike = sum(one == pytest.approx(other, rel=1e-4) for one, other in scores)
            same = sum(one[0].ids == other[0].ids for one, other in pairs)
            assert min(alike, same) >= len(MANY) - 3  # float32 breaks a tie now and then
        assert ready.graph_cache


@pytest.mark.parametrize("beam", [1, 5])
def test_a_search_in_bf16_scores_nearly_as_in_fp32(beam: int) -> None:
    net = random_network(vocab=40, init_range=3.0).float().to("cuda")
    found = []
    for precision in PRECISIONS:
        devices.configure(GPU, precision)
        found.append([items[0].logprob for items in beam_search.decode(net, MANY, beam=beam)])
    devices.configure(GPU)
    assert found[0] != found[1]
    assert sum(one == pytest.approx(other, rel=0.03) for one, other in zip(*found, strict=True)) > 0.8 * len(MANY)


def test_where_a_gpu_has_too_little_memory_boards_get_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    net = random_network(vocab=40, init_range=5.0).float().to("cuda")
    expected = beam_search.decode(net, MANY, beam=5)
    make = beam_search_cuda.StaticBeam.__init__

    def small(self: beam_search_cuda.StaticBeam, *given: object, sentences: int, **other: int) -> None:
        if sentences > 8:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        make(self, *given, sentences=sentences, **other)  # type: ignore[arg-type]

    monkeypatch.setattr(beam_search_cuda.StaticBeam, "__init__", small)
    found = beam_search.decode(net, MANY, beam=5, batch_sizer=beam_search.BatchSizer(1500))
    assert [items[0].ids for items in found] == [items[0].ids for items in expected]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_training_learns_and_repeats_bit_for_bit(precision: Precision) -> None:
    device, given = devices.configure(GPU, precision), settings(epochs=40, learning_rate=0.02, batch_size=4)
    nets = [network(dropout=0.05).to(device) for _ in range(2)]
    curves = [trainer.train(net, lesson(settings=given), GPU) for net in nets]
    devices.configure(GPU)
    assert curves[0] == curves[1]
    assert torch.equal(flat(nets[0]), flat(nets[1]))
    assert curves[0][-1].dev_perplexity < 2.5


def test_a_training_is_that_of_a_cpu_without_dropout() -> None:
    one, other, given = network(dropout=0.0), network(dropout=0.0).to("cuda"), settings(shards=1)
    curve = trainer.train(one, lesson(settings=given), Machine(processes=1, device="cpu"))
    theirs = trainer.train(other, lesson(settings=given), GPU)
    assert [line.dev_perplexity for line in theirs] == pytest.approx([it.dev_perplexity for it in curve], rel=1e-3)


def test_pruned_weights_stay_zero_and_word_kd_runs() -> None:
    net, teacher = network().to("cuda"), network(seed=2).to("cuda")
    mask = pruning.mask(net, 0.5)
    pruning.apply(net, mask)
    trainer.train(net, lesson(mask=mask, alpha=0.5, teacher=teacher), GPU)
    assert not flat(net)[~mask.to("cuda")].any()


def test_word_kd_of_a_shortlist_is_that_of_a_cpu() -> None:
    logits, gold = torch.randn(7, 20), torch.arange(7)
    listed = TopK(torch.stack([torch.randperm(20)[:4] for _ in range(7)]), torch.rand(7, 5).softmax(-1))
    found = []
    for device in ("cpu", "cuda"):
        given = logits.to(device, copy=True).requires_grad_()
        loss = word_kd(given * 1.0, gold.to(device), TopK(*(it.to(device) for it in listed)), alpha=0.5)
        loss.backward()  # type: ignore[no-untyped-call]
        assert given.grad is not None
        found.append((float(loss.detach()), given.grad.cpu()))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-4, atol=1e-6)
