"""The LSTM cell, attention and attentional vector of one time step in plain torch: the reference.

`seqkd.ops.cpu.lstm_cell` has the same functions compiled and `seqkd.ops.cuda.lstm_cell` as CUDA kernels. They write
their results in place. Sizes: B sentences, H hidden units, S source positions, N rows of a search. What matrix products
read may be of another type than the rest, to which copying rounds. An optional tensor that is written may be None.
Gates stand in the order input, forget, output, cell (i, f, o, g).
"""

import torch
from torch import Tensor


def cell(
    gates: Tensor,
    added: Tensor,
    mask: Tensor | None,
    old_cell: Tensor,
    new_cell: Tensor,
    tanh_cell: Tensor | None,
    state: Tensor | None,
    state_out: Tensor | None,
    next_input: Tensor | None,
    dropout_mask: Tensor | None,
) -> None:
    """Compute one LSTM step in place.

    gates: (B, 4H), the products with the weights, become activations; added: (B or 1, 4H), added to them before; mask:
    (B, 1), 0 at padding; old_cell, new_cell, tanh_cell: (B, H). Writes the state to state and state_out (B, H) and,
    times dropout_mask (B, H), to next_input (B, H).
    """
    hidden = old_cell.shape[1]
    gates += added
    gates[:, : 3 * hidden].sigmoid_()
    gates[:, 3 * hidden :].tanh_()
    i, f, o, g = torch.split(gates, hidden, 1)
    torch.mul(f, old_cell, out=new_cell)
    new_cell.addcmul_(i, g)
    if mask is not None:
        new_cell.mul_(mask)
    tanh_new = torch.tanh(new_cell)
    new_state = o * tanh_new
    for out, value in ((tanh_cell, tanh_new), (state, new_state), (state_out, new_state)):
        if out is not None:
            out.copy_(value)
    if next_input is not None:
        next_input.copy_(new_state if dropout_mask is None else new_state * dropout_mask)


def cell_backward(
    gates: Tensor,
    mask: Tensor | None,
    old_cell: Tensor,
    tanh_cell: Tensor,
    grad_next_input: Tensor,
    dropout_mask: Tensor | None,
    grad_state: Tensor,
    grad_cell: Tensor,
    grad_gates: Tensor,
) -> None:
    """Compute the gradients of `cell`.

    The state's gradient is grad_next_input * dropout_mask + grad_state, all (B, H). grad_cell (B, H) holds that of the
    new cell and becomes that of the old cell. Writes grad_gates (B, 4H), of the gates before their activation.
    """
    i, f, o, g = torch.split(gates, old_cell.shape[1], 1)
    grad = (grad_next_input if dropout_mask is None else grad_next_input * dropout_mask) + grad_state
    if mask is not None:
        grad, grad_cell[:] = grad * mask, grad_cell * mask
    grad_cell += grad * o * (1 - tanh_cell * tanh_cell)
    each = (
        grad_cell * g * i * (1 - i),
        grad_cell * old_cell * f * (1 - f),
        grad * tanh_cell * o * (1 - o),
        grad_cell * i * (1 - g * g),
    )
    grad_gates.copy_(torch.cat(each, 1))
    grad_cell *= f


def attend(combine_input: Tensor, keys: Tensor, states: Tensor, mask_bias: Tensor, weights: Tensor | None) -> None:
    """Compute Luong's general attention.

    combine_input: (N, 2H), holds the top state in its right half and gets the context in its left half. keys, states:
    (B, S, H). mask_bias: (B, S), 0 at words and very negative at padding. weights: (N, S), written. The N / B rows of
    a sentence are adjacent.
    """
    sentences, _, hidden = keys.shape
    query = combine_input[:, hidden:].to(keys.dtype).reshape(sentences, -1, hidden)
    probabilities = torch.softmax(torch.baddbmm(mask_bias[:, None], query, keys.transpose(1, 2)), -1)
    combine_input[:, :hidden] = torch.bmm(probabilities, states).flatten(0, 1)
    if weights is not None:
        weights.copy_(probabilities.flatten(0, 1))


def attend_backward(
    grad_combine_input: Tensor, weights: Tensor, keys: Tensor, states: Tensor, grad_scores: Tensor, grad_state: Tensor
) -> None:
    """Compute the gradients of `attend`.

    grad_combine_input: (B, 2H), of [context; top state]. Writes grad_scores (B, S) and grad_state (B, H), that of the
    top state.
    """
    hidden = keys.shape[2]
    weighted = weights * torch.bmm(states, grad_combine_input[:, :hidden, None])[:, :, 0]
    torch.addcmul(weighted, weights, weighted.sum(-1, keepdim=True), value=-1, out=grad_scores)
    torch.add(grad_combine_input[:, hidden:], torch.bmm(grad_scores[:, None], keys)[:, 0], out=grad_state)


def attn_output(
    attn_vector: Tensor, dropout_mask: Tensor | None, out: Tensor | None, next_input: Tensor | None
) -> None:
    """Compute the attentional vector: attn_vector (B, H) becomes its tanh.

    Times dropout_mask it is written to out and next_input (B, H).
    """
    attn_vector.tanh_()
    dropped = attn_vector if dropout_mask is None else attn_vector * dropout_mask
    for copy in (out, next_input):
        if copy is not None:
            copy.copy_(dropped)


def attn_output_backward(
    grad_out: Tensor, grad_next_input: Tensor, dropout_mask: Tensor | None, attn_vector: Tensor, grad_combined: Tensor
) -> None:
    """Compute grad_combined = (grad_out + grad_next_input) * dropout_mask * (1 - attn_vector^2), all (B, H)."""
    grad = grad_out + grad_next_input
    grad_combined.copy_((grad if dropout_mask is None else grad * dropout_mask) * (1 - attn_vector * attn_vector))
