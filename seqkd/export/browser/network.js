"use strict";
// The network of seqkd.models.lstm for one sentence, and beam search as seqkd.decoding.beam_search does it.
// Sizes: S source pieces, H hidden units, V pieces. A matrix is a Float32Array, row after row.

class Network {
  constructor({ shape, tensors, weights }) {
    Object.assign(this, shape); // layers, hidden, vocab
    this.tensors = unpack(tensors, weights);
    this.wordGates = new Map(); // what each word seen before adds to the first layer's gates
  }

  // Return the encoder's states and keys (S, H), and the decoder's state before the first word.
  encode(ids) {
    const { layers, hidden } = this;
    const states = [], cells = [];
    let below = ids.map((id) => row(this.tensors.source_embedding, id, hidden));
    for (let layer = 0; layer < layers; layer++) {
      let state = new Float32Array(hidden), cell = new Float32Array(hidden);
      below = below.map((input) => {
        const gates = this.tensors[`encoder_bias.${layer}`].slice();
        addProduct(gates, this.tensors[`encoder_input.${layer}`], input);
        addProduct(gates, this.tensors[`encoder_state.${layer}`], state);
        [state, cell] = lstmCell(gates, cell);
        return state;
      });
      states.push(state);
      cells.push(cell);
    }
    const keys = below.map((state) => productFromLeft(state, this.tensors.attention));
    return { states: below, keys, start: { vector: new Float32Array(hidden), states, cells } };
  }

  // Return the decoder's state after one more word, with the attention weights (S,).
  step(word, memory, before) {
    const states = [], cells = [];
    let lower = before.vector;
    for (let layer = 0; layer < this.layers; layer++) {
      const gates = (layer ? this.tensors[`decoder_bias.${layer}`] : this.gatesOf(word)).slice();
      addProduct(gates, this.tensors[`decoder.${layer}`], concatenate(lower, before.states[layer]));
      const [state, cell] = lstmCell(gates, before.cells[layer]);
      states.push(state);
      cells.push(cell);
      lower = state;
    }
    const attention = softmax(memory.keys.map((key) => dot(key, lower)));
    const context = new Float32Array(this.hidden);
    memory.states.forEach((state, position) => addScaled(context, attention[position], state));
    const vector = new Float32Array(this.hidden);
    addProduct(vector, this.tensors.combine, concatenate(context, lower));
    return { vector: vector.map(Math.tanh), states, cells, attention };
  }

  gatesOf(word) {
    if (!this.wordGates.has(word)) {
      const gates = this.tensors["decoder_bias.0"].slice();
      addProduct(gates, this.tensors.decoder_word, row(this.tensors.target_embedding, word, this.hidden));
      this.wordGates.set(word, gates);
    }
    return this.wordGates.get(word);
  }

  // Return the log-probability of each piece as the next word, (V,).
  logProbabilities(state) {
    const logits = this.tensors.output_bias.slice();
    addProduct(logits, this.tensors.output, state.vector);
    const largest = logits.reduce((a, b) => Math.max(a, b));
    const normalizer = largest + Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit - largest), 0));
    return logits.map((logit) => logit - normalizer);
  }
}

// Find the best translation. A generator, so that a page can breathe: it yields after each row of a step and returns
// { ids, logProbabilities of the ids, attention, score, finished }.
function* search(network, source, { beam, special, limit, lengthPenalty = 1 }) {
  const memory = network.encode(source);
  let rows = [{ ids: [], score: 0, word: special.bos, state: memory.start, logProbabilities: [], attention: [] }];
  const ended = [];
  for (let length = 1; rows.length; length++) {
    const open = beam - ended.length, found = [];
    for (const parent of rows) {
      const state = network.step(parent.word, memory, parent.state);
      const logProbabilities = network.logProbabilities(state);
      const words = largest(logProbabilities, open, special.forbidden);
      found.push(...words.map((word) => extend(parent, state, word, logProbabilities[word])));
      yield;
    }
    const kept = found.sort((a, b) => b.score - a.score).slice(0, open);
    ended.push(...kept.filter((row) => row.word === special.eos).map((row) => ({ ...row, finished: true })));
    rows = kept.filter((row) => row.word !== special.eos);
    if (ended.length >= beam || length < limit) continue;
    ended.push(...rows.map((row) => ({ ...row, finished: false })));
    break;
  }
  const normalized = (row) => row.score / row.logProbabilities.length ** lengthPenalty;
  ended.sort((a, b) => b.finished - a.finished || normalized(b) - normalized(a));
  const [best] = ended;
  return { ...best, ids: best.finished ? best.ids.slice(0, -1) : best.ids };
}

function extend(parent, state, word, logProbability) {
  return {
    ids: [...parent.ids, word],
    score: parent.score + logProbability,
    word,
    state,
    logProbabilities: [...parent.logProbabilities, logProbability],
    attention: [...parent.attention, state.attention],
  };
}

// Return the indices of the count largest values, largest first, the first of equals before the others.
function largest(values, count, forbidden) {
  const best = [];
  for (let index = 0; index < values.length; index++) {
    if (forbidden.includes(index) || (best.length === count && !(values[index] > values[best[count - 1]]))) continue;
    let place = best.length;
    while (place && values[index] > values[best[place - 1]]) place--;
    best.splice(place, 0, index);
    if (best.length > count) best.pop();
  }
  return best;
}

// Return the weights by name. Their bytes: all floats (scales of the rows, biases), then all int8 matrices.
function unpack(tensors, base64) {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const floatCount = tensors.reduce((sum, { rows }) => sum + rows, 0);
  const floats = new Float32Array(bytes.buffer, 0, floatCount), integers = new Int8Array(bytes.buffer, 4 * floatCount);
  const found = {};
  let row = 0, start = 0;
  for (const { name, rows, columns } of tensors) {
    const scales = floats.subarray(row, (row += rows));
    const matrix = integers.subarray(start, (start += rows * columns));
    const scaled = (value, index) => value * scales[Math.trunc(index / columns)];
    found[name] = columns ? Float32Array.from(matrix, scaled) : scales;
  }
  return found;
}

// Return state and cell after an LSTM step; gates: (4H,) in the order input, forget, output, candidate.
function lstmCell(gates, before) {
  const hidden = before.length, state = new Float32Array(hidden), cell = new Float32Array(hidden);
  for (let unit = 0; unit < hidden; unit++) {
    const input = sigmoid(gates[unit]), forget = sigmoid(gates[hidden + unit]);
    cell[unit] = forget * before[unit] + input * Math.tanh(gates[3 * hidden + unit]);
    state[unit] = sigmoid(gates[2 * hidden + unit]) * Math.tanh(cell[unit]);
  }
  return [state, cell];
}

function sigmoid(value) {
  return 1 / (1 + Math.exp(-value));
}

function softmax(values) {
  const top = values.reduce((a, b) => Math.max(a, b));
  const powers = values.map((value) => Math.exp(value - top)), sum = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / sum);
}

function dot(a, b) {
  let sum = 0;
  for (let index = 0; index < a.length; index++) sum += a[index] * b[index];
  return sum;
}

// Add a matrix times a vector to out.
function addProduct(out, matrix, vector) {
  const columns = vector.length;
  for (let row = 0, at = 0; row < out.length; row++) {
    let sum = 0;
    for (let column = 0; column < columns; column++) sum += matrix[at++] * vector[column];
    out[row] += sum;
  }
}

// Return a vector times a square matrix.
function productFromLeft(vector, matrix) {
  const size = vector.length, out = new Float32Array(size);
  vector.forEach((value, index) => addScaled(out, value, row(matrix, index, size)));
  return out;
}

// Add a vector times a number to out.
function addScaled(out, factor, vector) {
  for (let index = 0; index < out.length; index++) out[index] += factor * vector[index];
}

function row(matrix, index, size) {
  return matrix.subarray(index * size, (index + 1) * size);
}

function concatenate(a, b) {
  const both = new Float32Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}
