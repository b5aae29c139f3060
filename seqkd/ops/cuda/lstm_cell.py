"""`pointwise` on a GPU: each function one kernel of our own, where torch can compile it (by NVRTC; no compiler needed).

A step of a small network is some thirty operations of torch, each of which costs a GPU more to begin than to do.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor

from seqkd.ops import lstm_cell

THREADS = 256  # of a block
SHARED = 48 << 10  # bytes of a block's own memory that every GPU has

HEAD = {
    torch.float32: """
typedef float T;
__device__ inline float get(const T* at) { return *at; }
__device__ inline void put(T* at, float value) { *at = value; }
""",
    torch.bfloat16: """
typedef unsigned short T;
__device__ inline float get(const T* at) { return __uint_as_float((unsigned)*at << 16); }
__device__ inline void put(T* at, float value) {  // to the nearest, ties to even
    unsigned bits = __float_as_uint(value);
    *at = value != value ? 0x7fc0 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
""",
}
SOURCE = r"""
#define WARP 32
__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

__device__ inline float sum(float x) {  // over a warp, the same in each of its threads
    for (int apart = WARP / 2; apart; apart /= 2) x += __shfl_xor_sync(~0u, x, apart);
    return x;
}

extern "C" __global__ void cell(
    float* gates, const float* added, int added_stride, const float* live, const float* old, float* fresh,
    float* squashed, float* state, T* own, int own_stride, T* above, int above_stride, const float* keep,
    int batch, int hidden
) {
    int at = blockIdx.x * blockDim.x + threadIdx.x, b = at / hidden, j = at % hidden;
    if (b >= batch) return;
    float* gate = gates + 4 * (b * hidden) + j;
    const float* plus = added + b * added_stride + j;
    float enter = sigmoid(gate[0] + plus[0]);
    float forget = sigmoid(gate[hidden] + plus[hidden]);
    float show = sigmoid(gate[2 * hidden] + plus[2 * hidden]);
    float candidate = tanhf(gate[3 * hidden] + plus[3 * hidden]);
    float value = (forget * old[at] + enter * candidate) * (live ? live[b] : 1.0f), top = tanhf(value);
    gate[0] = enter;
    gate[hidden] = forget;
    gate[2 * hidden] = show;
    gate[3 * hidden] = candidate;
    fresh[at] = value;
    if (squashed) squashed[at] = top;
    if (state) state[at] = show * top;
    if (own) put(own + b * own_stride + j, show * top);
    if (above) put(above + b * above_stride + j, show * top * (keep ? keep[at] : 1.0f));
}

extern "C" __global__ void cell_backward(
    const float* gates, const float* live, const float* old, const float* squashed, const float* upper,
    int upper_stride, const float* keep, const float* later, int later_stride, float* to_cell, T* out,
    int batch, int hidden
) {
    int at = blockIdx.x * blockDim.x + threadIdx.x, b = at / hidden, j = at % hidden;
    if (b >= batch) return;
    const float* gate = gates + 4 * (b * hidden) + j;
    float enter = gate[0], forget = gate[hidden], show = gate[2 * hidden], candidate = gate[3 * hidden];
    float alive = live ? live[b] : 1.0f, top = squashed[at];
    float of_state = upper[b * upper_stride + j] * (keep ? keep[at] : 1.0f) + later[b * later_stride + j];
    of_state *= alive;
    float inner = to_cell[at] * alive + of_state * show * (1.0f - top * top);
    T* to = out + 4 * (b * hidden) + j;
    put(to, inner * candidate * enter * (1.0f - enter));
    put(to + hidden, inner * old[at] * forget * (1.0f - forget));
    put(to + 2 * hidden, of_state * top * show * (1.0f - show));
    put(to + 3 * hidden, inner * enter * (1.0f - candidate * candidate));
    to_cell[at] = inner * forget;
}

extern "C" __global__ void attend(
    T* above, const float* keys, const float* memory, const float* closed, float* weights,
    int rows, int source, int hidden
) {
    extern __shared__ float query[];  // H, then S scores, then S shares
    float *score = query + hidden, *share = score + source;
    int n = blockIdx.x, b = n / rows, lane = threadIdx.x % WARP;
    T* row = above + n * 2 * hidden;
    for (int j = threadIdx.x; j < hidden; j += blockDim.x) query[j] = get(row + hidden + j);
    __syncthreads();
    for (int s = threadIdx.x / WARP; s < source; s += blockDim.x / WARP) {
        const float* key = keys + (size_t)(b * source + s) * hidden;
        float x = 0.0f;
        for (int j = lane; j < hidden; j += WARP) x += query[j] * key[j];
        x = sum(x);
        if (lane == 0) score[s] = x + closed[b * source + s];
    }
    __syncthreads();
    float most = score[0], total = 0.0f;
    for (int s = 1; s < source; s++) most = fmaxf(most, score[s]);
    for (int s = 0; s < source; s++) total += expf(score[s] - most);
    for (int s = threadIdx.x; s < source; s += blockDim.x) {
        share[s] = expf(score[s] - most) / total;
        if (weights) weights[n * source + s] = share[s];
    }
    __syncthreads();
    const float* states = memory + (size_t)b * source * hidden;
    for (int j = threadIdx.x; j < hidden; j += blockDim.x) {
        float x = 0.0f;
        for (int s = 0; s < source; s++) x += share[s] * states[s * hidden + j];
        put(row + j, x);
    }
}

extern "C" __global__ void attend_backward(
    const float* combined, const float* weights, const float* keys, const float* memory, float* to_scores,
    float* upper, int source, int hidden
) {
    extern __shared__ float to_context[];  // H, then S gradients of the shares, then S of the scores
    float *of_share = to_context + hidden, *of_score = of_share + source;
    int b = blockIdx.x, lane = threadIdx.x % WARP;
    const float* row = combined + b * 2 * hidden;
    for (int j = threadIdx.x; j < hidden; j += blockDim.x) to_context[j] = row[j];
    __syncthreads();
    for (int s = threadIdx.x / WARP; s < source; s += blockDim.x / WARP) {
        const float* state = memory + (size_t)(b * source + s) * hidden;
        float x = 0.0f;
        for (int j = lane; j < hidden; j += WARP) x += to_context[j] * state[j];
        x = sum(x);
        if (lane == 0) of_share[s] = x;
    }
    __syncthreads();
    const float* weight = weights + b * source;
    float mean = 0.0f;
    for (int s = 0; s < source; s++) mean += of_share[s] * weight[s];
    for (int s = threadIdx.x; s < source; s += blockDim.x) {
        of_score[s] = weight[s] * (of_share[s] - mean);
        to_scores[b * source + s] = of_score[s];
    }
    __syncthreads();
    const float* key = keys + (size_t)b * source * hidden;
    for (int j = threadIdx.x; j < hidden; j += blockDim.x) {
        float x = row[hidden + j];
        for (int s = 0; s < source; s++) x += of_score[s] * key[s * hidden + j];
        upper[b * hidden + j] = x;
    }
}

extern "C" __global__ void squash(
    float* raw, const float* keep, float* out, T* fed, int fed_stride, int batch, int hidden
) {
    int at = blockIdx.x * blockDim.x + threadIdx.x, b = at / hidden, j = at % hidden;
    if (b >= batch) return;
    float value = raw[at] = tanhf(raw[at]);
    if (keep) value *= keep[at];
    if (out) out[at] = value;
    if (fed) put(fed + b * fed_stride + j, value);
}

extern "C" __global__ void squash_backward(
    const float* of_out, const float* fed, int fed_stride, const float* keep, const float* raw, T* to_combined,
    int batch, int hidden
) {
    int at = blockIdx.x * blockDim.x + threadIdx.x, b = at / hidden, j = at % hidden;
    if (b >= batch) return;
    float value = (of_out[at] + fed[b * fed_stride + j]) * (keep ? keep[at] : 1.0f);
    put(to_combined + at, value * (1.0f - raw[at] * raw[at]));
}
"""


@cache
def _kernel(name: str, kind: torch.dtype) -> Any:
    return torch.cuda._compile_kernel(HEAD[kind] + SOURCE, name)


@cache
def available() -> bool:
    """Whether this torch compiles kernels, for the GPU that is there: it is a private function of torch's."""
    if not torch.cuda.is_available() or not hasattr(torch.cuda, "_compile_kernel"):
        return False
    try:
        _kernel("squash", torch.float32)
    except (RuntimeError, OSError):
        return False
    return True


def supports(tensor: Tensor) -> bool:
    return tensor.is_cuda and tensor.dtype == torch.float32 and available()


def _launch(name: str, kind: torch.dtype, blocks: int, *arguments: Tensor | int | None, shared: int = 0) -> None:
    """kind: of what products read. None becomes a null pointer."""
    none = torch.empty(0, device="cuda")
    given = [none if it is None else it for it in arguments]
    _kernel(name, kind)((blocks, 1, 1), (THREADS, 1, 1), given, shared_mem=shared)


def _stride(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.stride(0)


def _blocks(tensor: Tensor) -> int:
    return -(-tensor.numel() // THREADS)


def _shared(keys: Tensor) -> int:
    """Bytes that a block of the attention needs for a query and two rows over the source."""
    _, source, hidden = keys.shape
    return 4 * (hidden + 2 * source)


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
    read = above if own is None else own
    kind = torch.float32 if read is None else read.dtype
    plus = 0 if added.shape[0] == 1 else added.stride(0)
    given = (gates, added, plus, live, old, new, tanh_cell, state, own, _stride(own), above, _stride(above), keep)
    _launch("cell", kind, _blocks(old), *given, *old.shape)


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
    given = (gates, live, old, tanh_cell, upper, upper.stride(0), keep, later, later.stride(0), to_cell, out)
    _launch("cell_backward", out.dtype, _blocks(old), *given, *old.shape)


def attend(above: Tensor, keys: Tensor, memory: Tensor, closed: Tensor, weights: Tensor | None) -> None:
    if (shared := _shared(keys)) > SHARED:
        lstm_cell.attend(above, keys, memory, closed, weights)
        return
    given = above, keys, memory, closed, weights, len(above) // len(keys), *keys.shape[1:]
    _launch("attend", above.dtype, len(above), *given, shared=shared)


def attend_backward(
    combined: Tensor, weights: Tensor, keys: Tensor, memory: Tensor, to_scores: Tensor, upper: Tensor
) -> None:
    if (shared := _shared(keys)) > SHARED:
        lstm_cell.attend_backward(combined, weights, keys, memory, to_scores, upper)
        return
    given = combined, weights, keys, memory, to_scores, upper, *keys.shape[1:]
    _launch("attend_backward", torch.float32, len(keys), *given, shared=shared)


def attn_output(raw: Tensor, keep: Tensor | None, out: Tensor | None, attn_vector: Tensor | None) -> None:
    kind = torch.float32 if attn_vector is None else attn_vector.dtype
    _launch("squash", kind, _blocks(raw), raw, keep, out, attn_vector, _stride(attn_vector), *raw.shape)


def attn_output_backward(
    of_out: Tensor, attn_vector: Tensor, keep: Tensor | None, raw: Tensor, to_combined: Tensor
) -> None:
    given = of_out, attn_vector, attn_vector.stride(0), keep, raw, to_combined
    _launch("squash_backward", to_combined.dtype, _blocks(raw), *given, *raw.shape)
