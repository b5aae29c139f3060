"use strict";

// Whatever comes from the corpus reaches the page through textContent alone, so none of it can be markup.

const $ = (selector) => document.querySelector(selector);

function element(name, text, properties) {
  return Object.assign(document.createElement(name), { textContent: text ?? "" }, properties);
}

// Tables: a click on a heading sorts by its column, a second click turns the order around.

function makeSortable(table) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const button = element("button", "", { type: "button" });
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const descending = heading.ariaSort ? heading.ariaSort === "ascending" : !heading.classList.contains("word");
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.ariaSort = descending ? "descending" : "ascending";
      sortRows(table.tBodies[0], column, descending);
    });
  });
}

function sortRows(body, column, descending) {
  const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.replaceAll(",", "");
  const compare = (one, other) => {
    if (one === "" || other === "") return (one === "") - (other === ""); // no value: always last
    const order = isNaN(one) || isNaN(other) ? one.localeCompare(other) : one - other;
    return descending ? -order : order;
  };
  body.append(...[...body.rows].sort((one, other) => compare(key(one), key(other))));
}

// Charts: what a mark says to a screen reader is also its tooltip.

function showTips() {
  const tip = $("#tip");
  document.addEventListener("pointerover", (event) => {
    const mark = event.target.closest?.(".chart [role=graphics-symbol][aria-label]");
    const said = mark && !mark.matches(".role-axis, .role-legend") ? mark.getAttribute("aria-label") : "";
    tip.hidden = !said;
    tip.textContent = said;
    if (!said) return;
    const left = event.pageX + 14;
    tip.style.left = `${Math.min(left, scrollX + document.documentElement.clientWidth - tip.offsetWidth - 8)}px`;
    tip.style.top = `${event.pageY + 16}px`;
  });
}

// Examples.

const PAGE_SIZE = 25;
const RIGHT = 60, WRONG = 40; // chrF
const LONG = 600; // characters of a text that scrolls by itself
const MAX_DIFF = 300; // words; longer texts are not compared

async function unpack(packed) {
  const bytes = Uint8Array.from(atob(packed), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

// Return for each word of a text whether it stands in the longest common subsequence with the other text.
function common(words, others) {
  if (words.length > MAX_DIFF || others.length > MAX_DIFF) return null;
  const lengths = Array.from({ length: words.length + 1 }, () => new Uint16Array(others.length + 1));
  for (let i = words.length - 1; i >= 0; i--)
    for (let j = others.length - 1; j >= 0; j--)
      lengths[i][j] = words[i] === others[j] ? lengths[i + 1][j + 1] + 1 : Math.max(lengths[i + 1][j], lengths[i][j + 1]);
  const found = [];
  for (let i = 0, j = 0; i < words.length; i++) {
    while (j < others.length && words[i] !== others[j] && lengths[i][j] === lengths[i][j + 1]) j++;
    const same = j < others.length && words[i] === others[j];
    found.push(same);
    if (same) j++;
  }
  return found;
}

function outputCell(text, reference) {
  const cell = element("dd", "", { dir: "auto" });
  if (text.length > LONG) cell.className = "long";
  const words = text.split(" ");
  const same = common(words, reference.split(" "));
  if (!text.trim()) cell.append(element("em", "(nothing)"));
  else if (!same) cell.textContent = text;
  else
    words.forEach((word, index) => {
      if (index) cell.append(" ");
      cell.append(same[index] ? word : element("mark", word));
    });
  return cell;
}

const digits = (text) => (text.match(/\d+/g) ?? []).sort().join(" ");

class Examples {
  constructor(data, form) {
    this.data = data;
    this.form = form;
    this.found = [];
    this.shown = 0;
    this.lines = data.lines.map(([id, source, reference, texts, scores]) => ({ id, source, reference, texts, scores }));
    for (const line of this.lines) {
      line.haystack = [line.source, line.reference, ...line.texts].join("\n").toLowerCase();
      line.length = line.source.split(" ").filter(Boolean).length;
    }
    this.fillForm();
    form.addEventListener("input", () => this.update());
    form.addEventListener("submit", (event) => event.preventDefault());
    $("#more").addEventListener("click", () => this.showMore());
    form.hidden = false;
    this.update();
    performance.mark("examples-ready");
  }

  fillForm() {
    const { models, searches, best } = this.data;
    const { student, search } = this.form.elements;
    models.forEach((model, index) => {
      if (model.name !== "teacher") student.append(new Option(model.name, index, false, model.name === best));
      const box = element("input", "", { type: "checkbox", name: "model", value: index });
      box.checked = ["teacher", "baseline", best].includes(model.name);
      const label = element("label");
      label.append(box, element("span", model.name, { className: model.kind }));
      $("#models").append(label);
    });
    searches.forEach((name, index) => search.append(new Option(name, index)));
  }

  // Return where in a line's texts and scores the output of a model by the chosen search method stands.
  column(model) {
    return Number(model) * this.data.searches.length + Number(this.form.elements.search.value);
  }

  update() {
    const { query, student, show, words, order } = this.form.elements;
    const [shortest, longest] = words.value.split("-").map(Number);
    const asked = query.value.toLowerCase().split(" ").filter(Boolean);
    const teacher = this.column(this.data.models.findIndex((model) => model.name === "teacher"));
    const own = this.column(student.value);
    const tests = {
      all: () => true,
      lost: (line) => line.scores[teacher] >= RIGHT && line.scores[own] <= WRONG,
      won: (line) => line.scores[own] >= RIGHT && line.scores[teacher] <= WRONG,
      numbers: (line) => digits(line.texts[own]) !== digits(line.source),
      same: (line) => line.texts[own] === line.texts[teacher],
    };
    const matches = (line) =>
      asked.every((word) => line.haystack.includes(word)) || query.value.trim() === String(line.id);
    this.found = this.lines.filter(
      (line) => shortest <= line.length && line.length <= longest && tests[show.value](line) && matches(line),
    );
    const lost = (line) => line.scores[teacher] - line.scores[own];
    if (order.value === "loss") this.found.sort((one, other) => lost(other) - lost(one));
    if (order.value === "gain") this.found.sort((one, other) => lost(one) - lost(other));
    const count = (number) => number.toLocaleString("en");
    $("#count").textContent = `${count(this.found.length)} of ${count(this.lines.length)} lines`;
    $("#lines").replaceChildren();
    this.shown = 0;
    this.showMore();
  }

  showMore() {
    const next = this.found.slice(this.shown, this.shown + PAGE_SIZE);
    $("#lines").append(...next.map((line) => this.item(line)));
    this.shown += next.length;
    $("#more").hidden = this.shown >= this.found.length;
  }

  item(line) {
    const { models } = this.data;
    const list = element("dl");
    const row = (name, score, cell, kind) =>
      list.append(element("dt", name, { className: kind ?? "" }), element("dd", score, { className: "score" }), cell);
    const text = (value, className) =>
      element("dd", value, { dir: "auto", className: value.length > LONG ? `${className} long` : className });
    row("source", "", text(line.source, "source"));
    row("human", "", text(line.reference, "human"));
    const chosen = [...this.form.querySelectorAll("[name=model]:checked")].map((box) => box.value);
    for (const model of new Set([...chosen, this.form.elements.student.value])) {
      const { name, kind } = models[model], column = this.column(model);
      row(name, line.scores[column], outputCell(line.texts[column], line.reference), kind);
    }
    const item = element("li");
    item.append(element("span", `line ${line.id}`, { className: "number" }), list);
    return item;
  }
}

document.querySelectorAll("table.sortable").forEach(makeSortable);
showTips();
unpack($("#examples-data").textContent).then(
  (data) => new Examples(data, $("#filters")),
  () => { $("#count").textContent = "This browser is too old to unpack the examples."; },
);
