"""The functions of `seqkd.ops.lstm_cell` as CUDA kernels, which torch compiles by NVRTC (no compiler needed).

A step of a small network is some thirty operations of torch, each of which takes a GPU longer to launch than to run.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor

from seqkd.ops import lstm_cell

THREADS = 256  # of a block
SHARED_MEMORY = 48 << 10  # bytes that a block may use on every GPU

LOAD_AND_STORE = {  # by the type that matrix products read: T, and its conversions
    torch.float32: """
typedef float T;
__device__ inline float get(const T* address) { return *address; }
__device__ inline void put(T* address, float value) { *address = value; }
""",
    torch.bfloat16: """
typedef unsigned short T;
__device__ inline float get(const T* address) { return __uint_as_float((unsigned)*address << 16); }
__device__ inline void put(T* address, float value) {  // to the nearest, ties to even
    unsigned bits = __float_as_uint(value);
    *address = value != value ? 0x7fc0 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
""",
}
SOURCE = r"""
#define WARP 32
__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

__device__ inline float sum(float x) {  // over a warp, the same in each of its threads
    for (int distance = WARP / 2; distance; distance /= 2) x += __shfl_xor_sync(~0u, x, distance);
    return x;
}

extern "C" __global__ void cell(
    float* gates, const float* added, int added_stride, const float* mask, const float* old_cell, float* new_cell,
    float* tanh_cell, float* state, T* state_out, int state_out_stride, T* next_input, int next_input_stride,
    const float* dropout_mask, int batch, int hidden
) {
    int at = blockIdx.x * blockDim.x + threadIdx.x, b = at / hidden, j = at % hidden;
    if (b >= batch) return;
    float* gate = gates + 4 * (b * hidden) + j;
    const float* plus = added + b * added_stride + j;
    float i = sigmoid(gate[0] + plus[0]);
    float f = sigmoid(gate[hidden] + plus[hidden]);
    float o = sigmoid(gate[2 * hidden] + plus[2 * hidden]);
    float g = tanhf(gate[3 * hidden] + plus[3 * hidden]);
    float value = (f * old_cell[at] + i * g) * (mask ? mask[b] : 1.0f), tanh_new = tanhf(value);
    gate[0] = i;
    gate[hidden] = f;
    gate[2 * hidden] = o;
    gate[3 * hidden] = g;
    new_cell[at] = value;
    if (tanh_cell) tanh_cell[at] = tanh_new;
    float new_state = o * tanh_new;
    if (state) state[at] = new_state;
    if (state_out) put(state_out + b * state_out_stride + j, new_state);
    if (next_input) put(next_input + b * next_input_stride + j, new_state * (dropout_mask ? dropout_mask[at] : 1.0f));
}

extern "C" __global__ void cell_backward(
    const float* gates, const float* mask, const float* old_cell, const float* tanh_cell, const float* grad_next_input,
    int next_input_stride, const float* dropout_mask, const float* grad_state, int state_stride, float* grad_cell,
    T* grad_gates, int batch, int hidden
) {
    int at = blockIdx.x * blockDim.x + threadIdx.x, b = at / hidden, j = at % hidden;
    if (b >= batch) return;
    const float* gate = gates + 4 * (b * hidden) + j;
    float i = gate[0], f = gate[hidden], o = gate[2 * hidden], g = gate[3 * hidden];
    float unmasked = mask ? mask[b] : 1.0f, tanh_new = tanh_cell[at];
    float grad = grad_next_input[b * next_input_stride + j] * (dropout_mask ? dropout_mask[at] : 1.0f)
        + grad_state[b * state_stride + j];
    grad *= unmasked;
    float inner = grad_cell[at] * unmasked + grad * o * (1.0f - tanh_new * tanh_new);
    T* out = grad_gates + 4 * (b * hidden) + j;
    put(out, inner * g * i * (1.0f - i));
    put(out + hidden, inner * old_cell[at] * f * (1.0f - f));
    put(out + 2 * hidden, grad * tanh_new * o * (1.0f - o));
    put(out + 3 * hidden, inner * i * (1.0f - g * g));
    grad_cell[at] = inner * f;
}

extern "C" __global__ void attend(
    T* combine_input, const float* keys, const float* states, const float* mask_bias, float* weights,
    int rows, int source, int hidden
) {
    extern __shared__ float query[];  // H, then S scores, then S probabilities
    float *score = query + hidden, *probability = score + source;
    int n = blockIdx.x, b = n / rows, lane = threadIdx.x % WARP;
    T* row = combine_input + n * 2 * hidden;
    for (int j = threadIdx.x; j < hidden; j += blockDim.x) query[j] = get(row + hidden + j);
    __syncthreads();
    for (int s = threadIdx.x / WARP; s < source; s += blockDim.x / WARP) {
        const float* key = keys + (size_t)(b * source + s) * hidden;
        float x = 0.0f;
        for (int j = lane; j < hidden; j += WARP) x += query[j] * key[j];
        x = sum(x);
        if (lane == 0) score[s] = x + mask_bias[b * source + s];
    }
    __syncthreads();
    float highest = score[0], total = 0.0f;
    for (int s = 1; s < source; s++) highest = fmaxf(highest, score[s]);
    for (int s = 0; s < source; s++) total += expf(score[s] - highest);
    for (int s = threadIdx.x; s < source; s += blockDim.x) {
        probability[s] = expf(score[s] - highest) / total;
        if (weights) weights[n * source + s] = probability[s];
    }
    __syncthreads();
    const float* state = states + (size_t)b * source * hidden;
    for (int j = threadIdx.x; j < hidden; j += blockDim.x) {
        float x = 0.0f;
        for (int s = 0; s < source; s++) x += probability[s] * state[s * hidden + j];
        put(row + j, x);
    }
}

extern "C" __global__ void attend_backward(
    const float* grad_combine_input, const float* weights, const float* keys, const float* states, float* grad_scores,
    float* grad_state, int source, int hidden
) {
    extern __shared__ float grad_context[];  // H, then S gradients of the weights, then S of the scores
    float *grad_weight = grad_context + hidden, *grad_score = grad_weight + source;
    int b = blockIdx.x, lane = threadIdx.x % WARP;
    const float* row = grad_combine_input + b * 2 * hidden;
    for (int j = threadIdx.x; j < hidden; j += blockDim.x) grad_context[j] = row[j];
    __syncthreads();
    for (int s = threadIdx.x / WARP; s < source; s += blockDim.x / WARP) {
        const float* state = states + (size_t)(b * source + s) * hidden;
        float x = 0.0f;
        for (int j = lane; j < hidden; j += WARP) x += grad_context[j] * state[j];
        x = sum(x);
        if (lane == 0) grad_weight[s] = x;
    }
    __syncthreads();
    const float* weight = weights + b * source;
    float mean = 0.0f;
    for (int s = 0; s < source; s++) mean += grad_weight[s] * weight[s];
    for (int s = threadIdx.x; s < source; s += blockDim.x) {
        grad_score[s] = weight[s] * (grad_weight[s] - mean);
        grad_scores[b * source + s] = grad_score[s];
    }
    __syncthreads();
    const float* key = keys + (size_t)b * source * hidden;
    for (int j = threadIdx.x; j < hidden; j += blockDim.x) {
        float x = row[hidden + j];
        for (int s = 0; s < source; s++) x += grad_score[s] * key[s * hidden + j];
        grad_state[b * hidden + j] = x;
    }
}

extern "C" __global__ void attn_output(
    float* attn_vector, const float* dropout_mask, float* out, T* next_input, int next_input_stride,
    int batch, int hidden
) {
    int at = blockIdx.x * blockDim.x + threadIdx.x, b = at / hidden, j = at % hidden;
    if (b >= batch) return;
    float value = attn_vector[at] = tanhf(attn_vector[at]);
    if (dropout_mask) value *= dropout_mask[at];
    if (out) out[at] = value;
    if (next_input) put(next_input + b * next_input_stride + j, value);
}

extern "C" __global__ void attn_output_backward(
    const float* grad_out, const float* grad_next_input, int next_input_stride, const float* dropout_mask,
    const float* attn_vector, T* grad_combined, int batch, int hidden
) {
    int at = blockIdx.x * blockDim.x + threadIdx.x, b = at / hidden, j = at % hidden;
    if (b >= batch) return;
    float grad = grad_out[at] + grad_next_input[b * next_input_stride + j];
    grad *= dropout_mask ? dropout_mask[at] : 1.0f;
    put(grad_combined + at, grad * (1.0f - attn_vector[at] * attn_vector[at]));
}
"""


@cache
def _kernel(name: str, kind: torch.dtype) -> Any:
    return torch.cuda._compile_kernel(LOAD_AND_STORE[kind] + SOURCE, name)


@cache
def available() -> bool:
    """Return whether this torch compiles kernels for the GPU at hand, by a private function of torch's."""
    if not torch.cuda.is_available() or not hasattr(torch.cuda, "_compile_kernel"):
        return False
    try:
        _kernel("attn_output", torch.float32)
    except (RuntimeError, OSError):
        return False
    return True


def supports(tensor: Tensor) -> bool:
    """Return whether the kernels compute with such tensors."""
    return tensor.is_cuda and tensor.dtype == torch.float32 and available()


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
    """Compute one LSTM step, as `lstm_cell.cell` does."""
    rounded = next_input if state_out is None else state_out
    kind = torch.float32 if rounded is None else rounded.dtype
    added_stride = 0 if added.shape[0] == 1 else added.stride(0)
    read = gates, added, added_stride, mask, old_cell
    written = new_cell, tanh_cell, state, state_out, _stride(state_out), next_input, _stride(next_input)
    _launch("cell", kind, _blocks(old_cell), *read, *written, dropout_mask, *old_cell.shape)


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
    """Compute the gradients of `cell`, as `lstm_cell.cell_backward` does."""
    saved = gates, mask, old_cell, tanh_cell
    grads = grad_next_input, grad_next_input.stride(0), dropout_mask, grad_state, grad_state.stride(0)
    kind, blocks = grad_gates.dtype, _blocks(old_cell)
    _launch("cell_backward", kind, blocks, *saved, *grads, grad_cell, grad_gates, *old_cell.shape)


def attend(combine_input: Tensor, keys: Tensor, states: Tensor, mask_bias: Tensor, weights: Tensor | None) -> None:
    """Compute Luong's general attention, as `lstm_cell.attend` does."""
    if (shared := _attention_bytes(keys)) > SHARED_MEMORY:
        lstm_cell.attend(combine_input, keys, states, mask_bias, weights)
        return
    sizes = len(combine_input) // len(keys), *keys.shape[1:]
    arguments = combine_input, keys, states, mask_bias, weights, *sizes
    _launch("attend", combine_input.dtype, len(combine_input), *arguments, shared=shared)


def attend_backward(
    grad_combine_input: Tensor, weights: Tensor, keys: Tensor, states: Tensor, grad_scores: Tensor, grad_state: Tensor
) -> None:
    """Compute the gradients of `attend`, as `lstm_cell.attend_backward` does."""
    if (shared := _attention_bytes(keys)) > SHARED_MEMORY:
        lstm_cell.attend_backward(grad_combine_input, weights, keys, states, grad_scores, grad_state)
        return
    arguments = grad_combine_input, weights, keys, states, grad_scores, grad_state, *keys.shape[1:]
    _launch("attend_backward", torch.float32, len(keys), *arguments, shared=shared)


def attn_output(
    attn_vector: Tensor, dropout_mask: Tensor | None, out: Tensor | None, next_input: Tensor | None
) -> None:
    """Compute the attentional vector, as `lstm_cell.attn_output` does."""
    kind = torch.float32 if next_input is None else next_input.dtype
    arguments = attn_vector, dropout_mask, out, next_input, _stride(next_input), *attn_vector.shape
    _launch("attn_output", kind, _blocks(attn_vector), *arguments)


def attn_output_backward(
    grad_out: Tensor, grad_next_input: Tensor, dropout_mask: Tensor | None, attn_vector: Tensor, grad_combined: Tensor
) -> None:
    """Compute the gradients of `attn_output`, as `lstm_cell.attn_output_backward` does."""
    arguments = grad_out, grad_next_input, grad_next_input.stride(0), dropout_mask, attn_vector, grad_combined
    _launch("attn_output_backward", grad_combined.dtype, _blocks(attn_vector), *arguments, *attn_vector.shape)


def _launch(name: str, kind: torch.dtype, blocks: int, *arguments: Tensor | int | None, shared: int = 0) -> None:
    """Start a kernel; kind: the type that matrix products read; None becomes a null pointer."""
    null = torch.empty(0, device="cuda")
    pointers = [null if argument is None else argument for argument in arguments]
    _kernel(name, kind)((blocks, 1, 1), (THREADS, 1, 1), pointers, shared_mem=shared)


def _stride(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.stride(0)


def _blocks(tensor: Tensor) -> int:
    return -(-tensor.numel() // THREADS)


def _attention_bytes(keys: Tensor) -> int:
    """Return the shared memory that a block of the attention needs, for a query and two rows over the source."""
    _, source, hidden = keys.shape
    return 4 * (hidden + 2 * source)
