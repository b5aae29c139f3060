"use strict";
// Text to piece ids and back, as seqkd.data.vocab does it: the normal form, placeholders, then sentencepiece's BPE.

const SPACE = "\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";
const SPACES = new RegExp(`[${SPACE}]+`, "u");
// Controls, byte-order marks, and what stands where a character was broken.
const DROPPED = /[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ufeff\ufffd\ud800-\udfff]/gu;
// What shows nothing: Unicode's Default_Ignorable_Code_Point.
const IGNORABLE =
  "\\xad\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5\\u180b-\\u180f\\u200b-\\u200f\\u202a-\\u202e\\u2060-\\u206f\\u3164" +
  "\\ufe00-\\ufe0f\\ufeff\\uffa0\\ufff0-\\ufff8\\u{1bca0}-\\u{1bca3}\\u{1d173}-\\u{1d17a}\\u{e0000}-\\u{e0fff}";
const SEEN = new RegExp(`[^${SPACE}\\u2800${IGNORABLE}]`, "u");
const MARK = "\u2581"; // stands for the space before a word

// Return the text's normal form, as seqkd.data.normalization.normalize does.
function normalize(text) {
  text = text.replaceAll(MARK, " ").replace(DROPPED, "").normalize("NFC");
  text = text.split(SPACES).filter(Boolean).join(" ");
  return SEEN.test(text) ? text : "";
}

class Vocabulary {
  // pieces: texts by id; scores: what merges first; kinds: a letter each, n(ormal), u(nknown), c(ontrol), b(yte).
  // placeholders: their regular expression, and the signs of those that are written as a piece each.
  constructor({ pieces, scores_of_pieces: scores, kinds, placeholders: { pattern, signs } }) {
    this.pieces = pieces;
    this.scores = scores;
    this.kinds = kinds;
    this.ids = new Map(pieces.map((piece, id) => [piece, id]).filter(([, id]) => kinds[id] === "n"));
    this.unknown = kinds.indexOf("u");
    this.bytes = new Map();
    pieces.forEach((piece, id) => kinds[id] === "b" && this.bytes.set(byteOf(piece), id));
    this.words = new Map(); // of words seen before
    this.pattern = new RegExp(pattern, "gu");
    this.signs = [...signs];
  }

  // Return those placeholders of a text that are written as a piece each.
  placeholders(text) {
    return [...new Set(normalize(text).match(this.pattern))].slice(0, this.signs.length);
  }

  // Return the text's normal form with signs in place of its placeholders, as seqkd.data.placeholders.mask does.
  mask(text) {
    const found = this.placeholders(text);
    return normalize(text).replace(this.pattern, (own) => this.signs[found.indexOf(own)] ?? own);
  }

  // Return the text with the source's placeholders in place of signs.
  restore(text, source) {
    return this.placeholders(source).reduce((made, own, index) => made.split(this.signs[index]).join(own), text);
  }

  // Return the piece ids of a text.
  encode(text) {
    const marked = MARK + this.mask(text).replaceAll(" ", MARK);
    if (marked === MARK) return [];
    const ids = marked.match(/\u2581[^\u2581]*/gu).flatMap((word) => this.encodeWord(word)); // no piece spans two words
    return ids.filter((id, index) => id !== this.unknown || ids[index - 1] !== id); // a run of unknown ones is one
  }

  encodeWord(word) {
    if (!this.words.has(word)) this.words.set(word, this.merge([...word]).flatMap((piece) => this.spell(piece)));
    return this.words.get(word);
  }

  // Join the adjacent pair of the highest score, the leftmost of equals, until no pair is a piece.
  merge(symbols) {
    const pair = (index) => this.scores[this.ids.get(symbols[index] + symbols[index + 1])] ?? -Infinity;
    const found = symbols.map((_, index) => pair(index));
    while (symbols.length > 1) {
      let best = 0;
      for (let index = 1; index < found.length; index++) if (found[index] > found[best]) best = index;
      if (found[best] === -Infinity) break;
      symbols.splice(best, 2, symbols[best] + symbols[best + 1]);
      found.splice(best, 1);
      found[best] = pair(best);
      if (best) found[best - 1] = pair(best - 1);
    }
    return symbols;
  }

  // Return the ids of a symbol: its own, or those of its bytes, or the unknown one.
  spell(symbol) {
    if (this.ids.has(symbol)) return [this.ids.get(symbol)];
    return this.bytes.size ? [...new TextEncoder().encode(symbol)].map((byte) => this.bytes.get(byte)) : [this.unknown];
  }

  // Return the text of piece ids in its normal form, with the placeholders of the source that it translates.
  decode(ids, source) {
    let text = "", bytes = [];
    for (const id of ids) {
      if (this.kinds[id] === "b") {
        bytes.push(byteOf(this.pieces[id]));
        continue;
      }
      text += decodeBytes(bytes) + this.show(id);
      bytes = [];
    }
    return normalize(this.restore(text + decodeBytes(bytes), source));
  }

  show(id) {
    const kind = this.kinds[id];
    return kind === "c" ? "" : kind === "u" ? " \u2047 " : this.pieces[id].replaceAll(MARK, " ");
  }
}

// Return the number of a piece such as <0xFF>.
function byteOf(piece) {
  return Number(piece.slice(1, -1));
}

// Return the text of bytes in UTF-8; each byte that belongs to no character is one U+FFFD, as sentencepiece has it.
function decodeBytes(bytes) {
  const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  let text = "";
  for (let start = 0; start < bytes.length; ) {
    const first = bytes[start];
    const length = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    try {
      text += strict.decode(Uint8Array.from(bytes.slice(start, start + length)));
      start += length;
    } catch {
      text += "\ufffd";
      start += 1;
    }
  }
  return text;
}
