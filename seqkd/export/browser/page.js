"use strict";
// The page: translates what is typed, while it is typed, and shows how.

const SLICE = 12; // milliseconds of work before the page may draw again
const CELL = 22, LETTER = 8; // pixels of the attention picture
const HINT = "The stronger a word's line, the less sure it is. Point at a word, or move with the arrow keys, for more.";
const MOST_PIECES = 60; // of a sentence whose attention is drawn
const model = JSON.parse(document.getElementById("model").textContent);
const vocabulary = new Vocabulary(model);
const network = new Network(model);
let runs = 0; // the newest run; an older one stops

function showModel() {
  const [from, to] = model.languages.length ? model.languages.map(language) : ["Source", "Translation"];
  document.title = $("title").textContent = model.languages.length ? `${from} to ${to}` : model.name;
  $("source-language").textContent = from;
  $("target-language").textContent = to;
  model.languages.forEach((code, index) => ($(["source", "target"][index]).lang = code.replaceAll("_", "-")));
  const millions = (model.tensors.reduce((sum, { rows, columns }) => sum + rows * (columns || 1), 0) / 1e6).toFixed(2);
  $("lead").textContent =
    `${model.name}: a neural network of ${millions} million weights, all in this file. ` +
    "It works offline; nothing that you type leaves this page.";
  $("card").textContent = model.card;
  if (model.scores.rows.length) {
    const [head, ...rows] = model.scores.rows;
    $("scores-data").textContent = model.scores.data;
    $("scores").append(
      element("thead", {}, element("tr", {}, ...head.map((cell) => element("th", { scope: "col" }, cell)))),
      element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map((cell) => element("td", {}, cell))))),
    );
    $("scores-section").hidden = false;
  }
  for (const example of model.examples) {
    const button = element("button", { type: "button", lang: $("source").lang }, example);
    button.addEventListener("click", () => (($("source").value = example), update()));
    $("examples").append(button, " ");
    $("examples").hidden = false;
  }
  $("source").value = model.examples[0] ?? "";
}

// Translate one line; give way to the page every few milliseconds. null: something newer was typed meanwhile.
async function translate(line, beam, isNewest) {
  const { pieces, slope, least } = model.limit;
  const whole = vocabulary.encode(line), source = whole.slice(0, pieces), limit = slope * source.length + least;
  const steps = source.length ? search(network, source, { ...model.search, beam, limit }) : [][Symbol.iterator]();
  let worked = 0, since = performance.now(), step;
  while (!(step = steps.next()).done) {
    if (performance.now() - since < SLICE) continue;
    worked += performance.now() - since;
    await new Promise((resolve) => setTimeout(resolve));
    if (!isNewest()) return null;
    since = performance.now();
  }
  worked += performance.now() - since;
  return { ids: [], ...step.value, text: line, source, isCut: whole.length > pieces, milliseconds: worked };
}

async function update() {
  const run = ++runs, text = $("source").value, lines = [];
  const beam = Number(document.querySelector("input[name=beam]:checked").value);
  for (const line of text.split("\n")) {
    const translated = await translate(line, beam, () => run === runs);
    if (!translated) return;
    lines.push(translated);
  }
  $("target").replaceChildren(...lines.flatMap((line, index) => [index ? "\n" : "", ...showLine(line)]));
  $("target").querySelector(".word")?.setAttribute("tabindex", "0");
  $("word").textContent = lines.some((line) => line.ids.length) ? HINT : "";
  const milliseconds = lines.reduce((sum, line) => sum + line.milliseconds, 0);
  $("time").textContent = text.trim() ? `${milliseconds.toFixed(milliseconds < 10 ? 1 : 0)} ms` : "";
  showNote(lines);
  showAttention(lines.find((line) => line.ids.length));
}

// Return a line's words, each with how sure the network was of it.
function showLine(line) {
  const words = [];
  line.ids.forEach((id, index) => {
    if (!words.length || vocabulary.pieces[id].startsWith(MARK)) words.push([]);
    words.at(-1).push(index);
  });
  const textOf = (indices) => vocabulary.decode(indices.map((index) => line.ids[index]), line.text);
  const seen = words.filter(textOf), whole = vocabulary.decode(line.ids, line.text);
  if (seen.map(textOf).join(" ") !== whole) return [showWord(line, words.flat(), whole)]; // half characters in between
  return seen.flatMap((word, at) => [at ? " " : "", showWord(line, word, textOf(word))]);
}

function showWord(line, indices, text) {
  const probability = Math.exp(indices.reduce((sum, index) => sum + line.logProbabilities[index], 0));
  const percents = indices.map((index) => percent(Math.exp(line.logProbabilities[index])));
  const pieces = indices.map((index, at) => `${pieceText(line.ids[index], line)} ${percents[at]}`);
  const detail = `${text}: ${percent(probability)}${indices.length > 1 ? ` (${pieces.join(", ")})` : ""}`;
  const word = element("span", { class: "word", tabindex: "-1", title: percent(probability) }, text);
  word.style.setProperty("--doubt", `${Math.round(100 * (1 - probability))}%`);
  for (const event of ["pointerenter", "focus"]) {
    word.addEventListener(event, () => {
      $("word").textContent = detail;
      showAttention(line);
    });
  }
  return word;
}

// Move between the words with the arrow keys.
function moveFocus(event) {
  const words = [...$("target").querySelectorAll(".word")], at = words.indexOf(document.activeElement);
  const next = words[at + { ArrowRight: 1, ArrowLeft: -1 }[event.key]];
  if (at < 0 || !next) return;
  event.preventDefault();
  words[at].setAttribute("tabindex", "-1");
  next.setAttribute("tabindex", "0");
  next.focus();
}

// Say what makes a translation a guess.
function showNote(lines) {
  const isKnown = (character) => character === " " || vocabulary.ids.has(character);
  const characters = lines.flatMap((line) => [...vocabulary.mask(line.text)]);
  const unseen = new Set(characters.filter((character) => !isKnown(character)));
  const notes = [];
  if (unseen.size) notes.push(`Characters that the model hardly knows: ${[...unseen].slice(0, 10).join(" ")}`);
  if (lines.some((line) => line.isCut)) notes.push("Of a long line only the beginning is translated; break it up.");
  if (lines.some((line) => line.finished === false)) notes.push("A translation came to no end and was cut off.");
  $("note").textContent = notes.join(" ");
}

function showAttention(line) {
  const small = line && line.source.length <= MOST_PIECES && line.attention.length <= MOST_PIECES;
  $("attention-section").hidden = !small;
  if (!small) return;
  const columns = line.source.map((id) => pieceText(id, line));
  const rows = line.attention.map((_, index) => (index < line.ids.length ? pieceText(line.ids[index], line) : "(end)"));
  const left = LETTER * Math.max(...rows.map((text) => text.length)) + 10;
  const top = LETTER * Math.max(...columns.map((text) => text.length)) + 10;
  const width = left + CELL * columns.length + 60, height = top + CELL * rows.length;
  const label = "attention of each written piece over the source";
  const svg = element("svg", { width, height, role: "img", "aria-label": label });
  columns.forEach((text, column) => {
    const x = left + CELL * column + CELL / 2 + 4, y = top - 6;
    svg.append(element("text", { x, y, transform: `rotate(-60 ${x} ${y})`, fill: "currentColor" }, text));
  });
  rows.forEach((text, row) => {
    const y = top + CELL * row;
    svg.append(element("text", { x: left - 6, y: y + CELL / 2 + 4, "text-anchor": "end", fill: "currentColor" }, text));
    line.attention[row].forEach((weight, column) => {
      const label = element("title", {}, `${text} looks at ${columns[column]}: ${percent(weight)}`);
      const place = { x: left + CELL * column, y, width: CELL - 2, height: CELL - 2 };
      svg.append(element("rect", { ...place, class: "cell", "fill-opacity": 0.06 + 0.94 * weight }, label));
    });
  });
  $("attention").replaceChildren(svg);
}

function pieceText(id, line) {
  return vocabulary.restore(vocabulary.pieces[id], line.text).replaceAll(MARK, "\u00b7"); // a dot begins a word
}

function percent(probability) {
  return `${Math.round(100 * probability)} %`;
}

showModel();
$("source").addEventListener("input", update);
$("target").addEventListener("keydown", moveFocus);
document.querySelectorAll("input[name=beam]").forEach((input) => input.addEventListener("change", update));
update();
