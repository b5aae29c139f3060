"""A model as one ONNX graph of standard operators: piece ids of a sentence in, those of its greedy translation out.

The encoder is an `LSTM` a layer; the decoder is a `Loop` whose body does one step and ends at EOS or at the longest
length. Ids have neither BOS nor EOS. Sizes: S source pieces, H hidden units, V pieces.
"""

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from seqkd.data.batches import MAX_LINE_PIECES
from seqkd.data.vocab import BOS, EOS
from seqkd.decoding import beam_search
from seqkd.decoding.hypotheses import FORBIDDEN_IDS
from seqkd.models.checkpoint import Model
from seqkd.models.lstm import LSTMNetwork
from seqkd.utils.errors import InputError

OPSET, IR_VERSION = 18, 8  # IR 8 came with opset 18, so that readers of its time can read the file
SOURCE, TARGET = "source", "target"  # the names of the graph's input and output
FORBIDDEN = -1e9  # a logit that is never the largest; an infinity would not survive quantization
Array = NDArray[np.generic]


class _Graph:
    """Nodes and initializers of the main graph or of a loop's body, which can read those of the main graph too."""

    def __init__(self, prefix: str = "") -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.prefix = prefix  # of the nodes' names, which must differ between the two

    def constant(self, name: str, value: Array) -> str:
        self.initializers.append(numpy_helper.from_array(value, name))
        return name

    def add(self, operator: str, *inputs: str, name: str, outputs: int = 1, **attributes: Any) -> list[str]:
        """Append a node and return the names of its outputs."""
        names = [f"{self.prefix}{name}{number or ''}" for number in range(outputs)]
        self.nodes.append(helper.make_node(operator, inputs, names, name=names[0], **attributes))
        return names

    def one(self, operator: str, *inputs: str, name: str, **attributes: Any) -> str:
        return self.add(operator, *inputs, name=name, **attributes)[0]


def build(model: Model) -> onnx.ModelProto:
    """Return the graph. Raises InputError for a network that is no single LSTM."""
    network = model.network
    if not isinstance(network, LSTMNetwork):
        raise InputError("only a single LSTM can be exported to ONNX; export this model to a folder.")
    weights = {name: value.detach().cpu().numpy() for name, value in network.named_parameters()}
    graph = _Graph()
    graph.constant("eos", np.array(EOS))
    last = _encode(graph, weights, network.shape.layers)
    body = _step(weights, network.shape.layers)
    inputs = _loop_inputs(graph, last, hidden=network.shape.hidden)
    written = graph.add("Loop", *inputs, name="written", outputs=len(inputs) - 1, body=body)[-1]
    ids = graph.one("Squeeze", written, "batch_axis", name="ids")
    ends = graph.one("Equal", ids, "eos", name="ends")
    graph.add("Compress", ids, graph.one("Not", ends, name="is_word"), name=TARGET, axis=0)
    ports = [helper.make_tensor_value_info(name, TensorProto.INT64, [f"{name}_pieces"]) for name in (SOURCE, TARGET)]
    made = helper.make_graph(graph.nodes, "seqkd", ports[:1], ports[1:], graph.initializers)
    opsets = [helper.make_opsetid("", OPSET)]
    proto = helper.make_model(made, producer_name="seqkd", ir_version=IR_VERSION, opset_imports=opsets)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def serialize(model: Model, *, int8: bool = False) -> bytes:
    """Return the graph as a file holds it; int8: with dynamic quantization of all weights, the loop's too."""
    proto = build(model)
    if not int8:
        return bytes(proto.SerializeToString())
    options = {"EnableSubgraph": True, "MatMulConstBOnly": True}
    logging.disable(logging.WARNING)  # it advises to fuse nodes first, and this graph has none to fuse
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model.onnx")
            quantize_dynamic(proto, path, per_channel=True, weight_type=QuantType.QInt8, extra_options=options)
            return path.read_bytes()
    finally:
        logging.disable(logging.NOTSET)


def _encode(graph: _Graph, weights: dict[str, Array], layers: int) -> list[str]:
    """Add the encoder, with the top layer's `states` (S, H) and `keys_transposed` (H, S).

    Returns the names of each layer's last h and c, (1, 1, H).
    """
    embedding = graph.constant("source_embedding", weights["source_embedding"])
    bounds = [graph.constant(f"kept_{name}", np.array([at])) for name, at in (("from", 0), ("to", MAX_LINE_PIECES))]
    kept = graph.one("Slice", SOURCE, *bounds, name="kept")
    words = graph.one("Gather", embedding, kept, name="source_words")
    below = graph.one("Unsqueeze", words, graph.constant("batch_axis", np.array([1])), name="encoder_input")
    last: list[str] = []
    for layer in range(layers):
        matrices = weights[f"encoder_input.{layer}"], weights[f"encoder_state.{layer}"]
        inputs = _lstm_weights(graph, f"encoder{layer}", *matrices, weights[f"encoder_bias.{layer}"])
        above, *ends = graph.add(
            "LSTM", below, *inputs, name=f"encoder{layer}_out", outputs=3, hidden_size=_width(weights)
        )
        below = graph.one("Squeeze", above, "batch_axis", name=f"encoder{layer}_states")
        last += ends
    states = graph.one("Squeeze", below, "batch_axis", name="states")
    keys = graph.one("MatMul", states, graph.constant("attention", weights["attention"]), name="keys")
    graph.add("Transpose", keys, name="keys_transposed", perm=[1, 0])
    return last


def _step(weights: dict[str, Array], layers: int) -> onnx.GraphProto:
    """Return the loop's body: one step of the decoder, as LSTMNetwork.step does it."""
    body, hidden = _Graph("step_"), _width(weights)
    state = ["word", "vector", *(f"{kind}{layer}" for layer in range(layers) for kind in "hc")]
    embedding = body.constant("target_embedding", weights["target_embedding"])
    embedded = body.one("Gather", embedding, "word", name="embedded")  # (1, 1, H)
    lower, after = body.one("Concat", embedded, "vector", name="fed", axis=2), list[str]()
    direction = body.constant("direction_axis", np.array([1]))
    for layer in range(layers):
        matrix, bias = weights[f"decoder.{layer}"], weights[f"decoder_bias.{layer}"]
        below, own = matrix[:, :hidden], matrix[:, hidden:]
        if layer == 0:
            below = np.concatenate((weights["decoder_word"], below), 1)
        inputs = _lstm_weights(body, f"decoder{layer}", below, own, bias)
        before = "", f"h{layer}", f"c{layer}"
        outputs = body.add("LSTM", lower, *inputs, *before, name=f"decoder{layer}", outputs=3, hidden_size=hidden)
        lower = body.one("Squeeze", outputs[0], direction, name=f"lower{layer}")
        after += outputs[1:]
    vector = _attend(body, lower, weights)
    bias = weights["output_bias"].copy()
    bias[list(FORBIDDEN_IDS)] = FORBIDDEN
    product = body.one("MatMul", vector, body.constant("output", weights["output"].T.copy()), name="product")
    logits = body.one("Add", product, body.constant("output_bias", bias), name="logits")
    word = body.one("ArgMax", logits, name="next_word", axis=2, keepdims=0)  # (1, 1)
    eos = body.one("Equal", word, "eos", name="ended")
    goes_on = body.one("Not", body.one("Squeeze", eos, name="is_end"), name="goes_on")
    outputs = [
        goes_on,
        word,
        vector,
        *after,
        body.one("Squeeze", word, body.constant("first_axis", np.array([0])), name="written"),
    ]
    return _body(body, state, outputs, hidden=hidden)


def _attend(body: _Graph, lower: str, weights: dict[str, Array]) -> str:
    """Add Luong's general attention and the attentional vector (1, 1, H); lower: the top layer's state (1, 1, H)."""
    scores = body.one("MatMul", lower, "keys_transposed", name="scores")
    context = body.one("MatMul", body.one("Softmax", scores, name="attended", axis=-1), "states", name="context")
    both = body.one("Concat", context, lower, name="both", axis=2)
    combine = body.constant("combine", weights["combine"].T.copy())
    return body.one("Tanh", body.one("MatMul", both, combine, name="combined"), name="attentional")


def _body(body: _Graph, state: Sequence[str], outputs: Sequence[str], *, hidden: int) -> onnx.GraphProto:
    """Return the graph of a loop's body. Its ports: iteration and condition, then the state, last what it writes."""
    kinds = [(TensorProto.INT64, [1, 1]), *[(TensorProto.FLOAT, [1, 1, hidden])] * (len(state) - 1)]
    condition = (TensorProto.BOOL, list[int]())
    before = [(TensorProto.INT64, list[int]()), condition, *kinds]
    after = [condition, *kinds, (TensorProto.INT64, [1])]
    inputs = [helper.make_tensor_value_info(n, *k) for n, k in zip(["trip", "going", *state], before, strict=True)]
    results = [helper.make_tensor_value_info(n, *k) for n, k in zip(outputs, after, strict=True)]
    return helper.make_graph(body.nodes, "step", inputs, results, body.initializers)


def _loop_inputs(graph: _Graph, last: Sequence[str], *, hidden: int) -> list[str]:
    """Add what the loop begins with: the longest length, true, BOS, a zero vector, and the encoder's last h and c."""
    least = beam_search.max_length(0)
    slope = graph.constant("length_slope", np.array(beam_search.max_length(1) - least))
    length = graph.one("Squeeze", graph.one("Shape", "kept", name="shape"), name="source_length")
    limit = graph.one("Mul", length, slope, name="longest_output")
    limit = graph.one("Add", limit, graph.constant("length_least", np.array(least)), name="limit")
    begin = [
        graph.constant("going_on", np.array(True)),
        graph.constant("bos", np.array([[BOS]])),
        graph.constant("zero_vector", np.zeros((1, 1, hidden), np.float32)),
    ]
    return [limit, *begin, *last]


def _lstm_weights(graph: _Graph, name: str, below: Array, own: Array, bias: Array) -> list[str]:
    """Add the weights of an LSTM operator, whose gates stand in the order i, o, f, g, not i, f, o, g as ours."""

    def ordered(matrix: Array) -> Array:
        i, f, o, g = np.split(matrix, 4)
        return np.concatenate((i, o, f, g))[None]

    both = np.concatenate((ordered(bias), np.zeros_like(bias)[None]), 1)  # the second half is a bias of the state
    return [
        graph.constant(f"{name}_weight", ordered(below)),
        graph.constant(f"{name}_state", ordered(own)),
        graph.constant(f"{name}_bias", both),
    ]


def _width(weights: dict[str, Array]) -> int:
    return int(weights["attention"].shape[0])
