# mypy: disable-error-code="no-untyped-def, no-untyped-call, call-arg"
"""The losses and a beam's top-k, which both need the softmax of logits, compiled for float32 arrays on a CPU.

`seqkd.models.losses` and `seqkd.decoding.beam_search` have the same in plain torch. Sizes: V pieces, B sentences, R
rows a sentence, W continuations.
"""

import numpy as np

from seqkd.ops.cpu.gemm import block_size, gemm
from seqkd.ops.cpu.lstm_cell import ONE, exp
from seqkd.ops.cpu.packing import float_bits, float_of_bits
from seqkd.ops.cpu.target import FLAGS, FORCE_INLINE, INLINE
from seqkd.utils.jit import compiler

jit, jit_inline = compiler(__name__, **FLAGS), compiler(__name__, **INLINE)
jit_forceinline = compiler(__name__, **FORCE_INLINE)

BLOCK = 64  # logits that a beam skips together if their largest is too small


@jit
def mixed_loss(logits, row_max, labels, teacher, alpha):
    """Return (1 - alpha) NLL + alpha Word-KD, summed over words in float64, and turn logits into its gradient.

    logits: (words or more, V), become p - (1 - alpha) onehot - alpha q, 0 in rows beyond the words; row_max: each row's
    largest; labels: (words,) ids; teacher: (words, V) probabilities q, or an array of size 0 for NLL alone.
    """
    words, size = labels.size, logits.shape[1]
    loss = 0.0
    for n in range(words):
        logit, word = logits[n], labels[n]
        shift, total, label_logit = row_max[n], np.float32(0.0), logit[word]
        if teacher.size:
            probs, expected, mass = teacher[n], np.float32(0.0), np.float32(0.0)
            for k in range(size):
                shifted = logit[k] - shift
                expected += probs[k] * shifted
                mass += probs[k]
                value = exp(shifted)
                logit[k] = value
                total += value
            scale, log_total = ONE / total, np.log(total)
            for k in range(size):
                logit[k] = logit[k] * scale - alpha * probs[k]
            loss -= alpha * (expected - mass * log_total)
        else:
            for k in range(size):
                value = exp(logit[k] - shift)
                logit[k] = value
                total += value
            scale, log_total = ONE / total, np.log(total)
            for k in range(size):
                logit[k] *= scale
        loss -= (1.0 - alpha) * (label_logit - shift - log_total)
        logit[word] -= ONE - alpha
    logits[words:] = 0
    return loss


@jit
def top_k_loss(logits, row_max, labels, ids, probs, alpha):
    """Return `mixed_loss` with the teacher's k likeliest words, and turn logits into its gradient.

    ids: (words, k); probs: (words, k + 1), those of ids, then that of all other words together. Outside the list the
    gradient is p (1 - alpha r / P), of r the teacher's and P the student's probability of all other words: the pass
    over the vocabulary is that of NLL.
    """
    words, size, listed = labels.size, logits.shape[1], ids.shape[1]
    values = np.empty(listed, np.float32)
    loss = 0.0
    for n in range(words):
        logit, word, prob = logits[n], labels[n], probs[n]
        shift, label_logit, rest = row_max[n], logit[word], prob[listed]
        expected, inside, outside = np.float32(0.0), np.float32(0.0), np.float32(0.0)
        for i in range(listed):
            shifted = logit[ids[n, i]] - shift
            expected += prob[i] * shifted
            values[i] = exp(shifted)
            inside += values[i]
            logit[ids[n, i]] = -np.inf  # not in the sum of the others: subtracting it later would lose precision
        for k in range(size):
            value = exp(logit[k] - shift)
            logit[k] = value
            outside += value
        total = inside + outside
        scale, log_total = ONE / total, np.log(total)
        rest_scale = scale - alpha * rest / outside
        for k in range(size):
            logit[k] *= rest_scale
        for i in range(listed):
            logit[ids[n, i]] = values[i] * scale - alpha * prob[i]
        loss -= (1.0 - alpha) * (label_logit - shift - log_total)
        loss -= alpha * (expected + rest * np.log(outside) - log_total)
        logit[word] -= ONE - alpha
    logits[words:] = 0
    return loss


@jit_inline
def _ordered(bits):
    """Map the bits of a float32 to an integer of the same order, and back: vectors find the largest integer fast."""
    return bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFFFFFF))


@jit_inline
def _largest(numbers):
    largest = _ordered(float_bits(np.float32(-np.inf)))
    for n in range(numbers.size):
        largest = max(largest, _ordered(float_bits(numbers[n])))
    return float_of_bits(_ordered(largest))


@jit_forceinline
def beam_top_k(logits, scores, open_slots, forbidden_ids, best, parents, words):
    """Find the open_slots[b] best continuations of each sentence's beam, best first.

    logits: (B x R, V); scores: (B, R), best first, -inf for a row that is not active; forbidden_ids: never written.
    Writes best (B, W), log-probabilities, -inf beyond open_slots, and parents and words (B, W), the row that each
    continues and the piece that it adds.
    A continuation's score is at most its row's, so rows whose score is not above the last slot's are skipped, and
    within a row each block of such logits.
    """
    sentences, rows = scores.shape
    size, blocks = logits.shape[1], logits.shape[1] // BLOCK
    block = np.empty(blocks, np.float32)
    best[:] = -np.inf
    parents[:] = 0
    words[:] = 0
    for b in range(sentences):
        slots, taken, last = open_slots[b], 0, np.float32(-np.inf)
        value, parent, word = best[b], parents[b], words[b]
        for r in range(rows):
            if scores[b, r] <= last:
                break
            logit = logits[b * rows + r]
            for n in range(blocks):
                block[n] = _largest(logit[n * BLOCK : (n + 1) * BLOCK])
            largest = max(_largest(block), _largest(logit[blocks * BLOCK :]))
            total = np.float32(0.0)
            for k in range(size):
                total += exp(logit[k] - largest)
            base = scores[b, r] - largest - np.log(total)
            for n in range(blocks + 1):
                if n < blocks and block[n] + base <= last:
                    continue
                for k in range(n * BLOCK, min(size, (n + 1) * BLOCK)):
                    score = logit[k] + base
                    if score <= last or k in forbidden_ids:
                        continue
                    taken = _insert(value, parent, word, taken, slots, score, r, k)
                    last = value[slots - 1] if taken == slots else last


@jit_inline
def _insert(value, parent, word, taken, slots, score, r, k):
    """Insert a continuation into a sentence's best ones, which are sorted; return how many slots are taken."""
    i = taken if taken < slots else slots - 1
    while i > 0 and value[i - 1] < score:
        value[i], parent[i], word[i] = value[i - 1], parent[i - 1], word[i - 1]
        i -= 1
    value[i], parent[i], word[i] = score, r, k
    return min(taken + 1, slots)


@jit_forceinline
def add_softmax(logits, share, total):
    """Add share times the softmax of each row of logits, which is overwritten, to total (rows, V)."""
    for n in range(logits.shape[0]):
        logit, into = logits[n], total[n]
        shift, mass = _largest(logit), np.float32(0.0)
        for k in range(logit.size):
            value = exp(logit[k] - shift)
            logit[k] = value
            mass += value
        scale = share / mass
        for k in range(logit.size):
            into[k] += logit[k] * scale


@jit_forceinline
def beam_top_k_of_probs(probs, scores, open_slots, forbidden_ids, best, parents, words):
    """Find what `beam_top_k` finds of logits; probs: (B x R, V) probabilities."""
    sentences, rows = scores.shape
    size, blocks = probs.shape[1], probs.shape[1] // BLOCK
    best[:] = -np.inf
    parents[:] = 0
    words[:] = 0
    for b in range(sentences):
        slots, taken, last = open_slots[b], 0, np.float32(-np.inf)
        value, parent, word = best[b], parents[b], words[b]
        for r in range(rows):
            if scores[b, r] <= last:
                break
            prob, least = probs[b * rows + r], np.exp(last - scores[b, r]) * np.float32(0.999)  # a log may round
            for n in range(blocks + 1):
                if n < blocks and _largest(prob[n * BLOCK : (n + 1) * BLOCK]) <= least:
                    continue
                for k in range(n * BLOCK, min(size, (n + 1) * BLOCK)):
                    if prob[k] <= least or k in forbidden_ids:
                        continue
                    score = scores[b, r] + np.log(prob[k])
                    if score <= last:
                        continue
                    taken = _insert(value, parent, word, taken, slots, score, r, k)
                    if taken == slots:
                        last = value[slots - 1]
                        least = np.exp(last - scores[b, r]) * np.float32(0.999)


@jit
def project_top_k(vectors, panels, bias, scale, size, scores, open_slots, forbidden_ids, best, parents, words):
    """Find `beam_top_k` of the logits (B x R, size) that `gemm` computes of vectors (B x R, H), in blocks of sentences.

    So the logits are in a near cache when they are read, and a search never holds those of all its rows.
    """
    sentences, rows = scores.shape
    block = block_size(sentences, rows)
    logits = np.empty((block * rows, size), np.float32)
    for b in range(0, sentences, block):
        end = min(b + block, sentences)
        part = logits[: (end - b) * rows]
        gemm(vectors[b * rows : end * rows], panels, bias, scale, part)
        beam_top_k(part, scores[b:end], open_slots[b:end], forbidden_ids, best[b:end], parents[b:end], words[b:end])


@jit
def project_mean_top_k(vectors, panels, bias, scale, size, scores, open_slots, forbidden_ids, best, parents, words):
    """Find `project_top_k` of the mean of M networks' probabilities, computed of vectors (M, B x R, H).

    panels, bias and scale: those of each network, stacked.
    """
    sentences, rows = scores.shape
    block, share = block_size(sentences, rows), ONE / np.float32(len(vectors))
    logits, probs = np.empty((block * rows, size), np.float32), np.empty((block * rows, size), np.float32)
    for b in range(0, sentences, block):
        end = min(b + block, sentences)
        count = (end - b) * rows
        probs[:count] = 0
        for m in range(len(vectors)):
            gemm(vectors[m, b * rows : end * rows], panels[m], bias[m], scale[m], logits[:count])
            add_softmax(logits[:count], share, probs[:count])
        part = probs[:count], scores[b:end], open_slots[b:end]
        beam_top_k_of_probs(*part, forbidden_ids, best[b:end], parents[b:end], words[b:end])
