"""The pointwise parts of a time step in plain torch: what `kernels` compiles for a CPU and `cuda` for a GPU.

Everything is written in place. Sizes: B sentences, H hidden units, S source positions, N rows of a search. States that
a product reads may be of another type than the rest, which copying rounds to. None stands for "none".
"""

import torch
from torch import Tensor


def cell(
    gates: Tensor,
    added: Tensor,
    live: Tensor | None,
    old: Tensor,
    new: Tensor,
    tanh_cell: Tensor | None,
    state: Tensor | None,
    own: Tensor | None,
    above: Tensor | None,
    keep: Tensor | None,
) -> None:
    """One LSTM step; gates: (B, 4H) products, become activations; added: (B or 1, 4H).

    live: (B, 1), 0 at padding; old, new: (B, H) cells; squashed: (B, H), tanh of new. The state goes to state and own
    and, times keep (B, H), to above.
    """
    hidden = old.shape[1]
    gates += added
    gates[:, : 3 * hidden].sigmoid_()
    gates[:, 3 * hidden :].tanh_()
    enter, forget, show, candidate = torch.split(gates, hidden, 1)
    torch.mul(forget, old, out=new)
    new.addcmul_(enter, candidate)
    if live is not None:
        new.mul_(live)
    top = torch.tanh(new)
    value = show * top
    for place, found in ((tanh_cell, top), (state, value), (own, value)):
        if place is not None:
            place.copy_(found)
    if above is not None:
        above.copy_(value if keep is None else value * keep)


def cell_backward(
    gates: Tensor,
    live: Tensor | None,
    old: Tensor,
    tanh_cell: Tensor,
    upper: Tensor,
    keep: Tensor | None,
    later: Tensor,
    to_cell: Tensor,
    out: Tensor,
) -> None:
    """Gradients through cell; that of the state is upper * keep + later, all (B, H), that of the new cell to_cell.

    Writes the gates' to out (B, 4H) and the old cell's to to_cell.
    """
    enter, forget, show, candidate = torch.split(gates, old.shape[1], 1)
    state = (upper if keep is None else upper * keep) + later
    if live is not None:
        state, to_cell[:] = state * live, to_cell * live
    to_cell += state * show * (1 - tanh_cell * tanh_cell)
    found = (
        to_cell * candidate * enter * (1 - enter),
        to_cell * old * forget * (1 - forget),
        state * tanh_cell * show * (1 - show),
        to_cell * enter * (1 - candidate * candidate),
    )
    out.copy_(torch.cat(found, 1))
    to_cell *= forget


def attend(above: Tensor, keys: Tensor, memory: Tensor, closed: Tensor, weights: Tensor | None) -> None:
    """Luong's general attention; above: (N, 2H) holds the top state on the right and gets the context on the left.

    keys, memory: (B, S, H); closed: (B, S), 0 at words and very negative at padding; weights: (N, S), written; N / B
    rows of each sentence stand together.
    """
    sentences, _, hidden = keys.shape
    query = above[:, hidden:].to(keys.dtype).reshape(sentences, -1, hidden)
    share = torch.softmax(torch.baddbmm(closed[:, None], query, keys.transpose(1, 2)), -1)
    above[:, :hidden] = torch.bmm(share, memory).flatten(0, 1)
    if weights is not None:
        weights.copy_(share.flatten(0, 1))


def attend_backward(
    combined: Tensor, weights: Tensor, keys: Tensor, memory: Tensor, to_scores: Tensor, upper: Tensor
) -> None:
    """Gradients through attend; combined: (B, 2H) of [context; top state]; writes to_scores (B, S), upper (B, H)."""
    hidden = keys.shape[2]
    scaled = weights * torch.bmm(memory, combined[:, :hidden, None])[:, :, 0]
    torch.addcmul(scaled, weights, scaled.sum(-1, keepdim=True), value=-1, out=to_scores)
    torch.add(combined[:, hidden:], torch.bmm(to_scores[:, None], keys)[:, 0], out=upper)


def attn_output(raw: Tensor, keep: Tensor | None, out: Tensor | None, attn_vector: Tensor | None) -> None:
    """The attentional vector: raw (B, H) becomes its tanh; times keep it goes to out and fed (B, H)."""
    raw.tanh_()
    value = raw if keep is None else raw * keep
    for place in (out, attn_vector):
        if place is not None:
            place.copy_(value)


def attn_output_backward(
    of_out: Tensor, attn_vector: Tensor, keep: Tensor | None, raw: Tensor, to_combined: Tensor
) -> None:
    """to_combined = (of_out + fed) * keep * (1 - raw^2), all (B, H)"""
    value = of_out + attn_vector
    to_combined.copy_((value if keep is None else value * keep) * (1 - raw * raw))
