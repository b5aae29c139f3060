"use strict";
// The demo's page: asks every model at once for what is typed, and shows each answer when it comes.

const { models, languages, examples, maxCharacters } = JSON.parse(document.getElementById("model").textContent);
let asked = new AbortController(); // of the newest question; an older one is given up

const answers = models.map((model, index) => {
  const box = element("div", { class: "box", dir: "auto", "aria-live": "polite", "aria-labelledby": `model-${index}` });
  const detail = element("p", { class: "quiet" });
  const size = `${(model.parameters / 1e6).toFixed(2)} million weights, ${(model.bytes / 1e6).toFixed(2)} MB`;
  const head = element("h2", { id: `model-${index}` }, model.name);
  $("models").append(element("section", {}, head, element("p", { class: "quiet" }, size), box, detail));
  return { box, detail };
});

async function ask(index, text, beam, signal) {
  const { box, detail } = answers[index];
  box.classList.add("waiting");
  try {
    const request = { method: "POST", headers: { "Content-Type": "application/json" }, signal };
    const response = await fetch("/translate", { ...request, body: JSON.stringify({ model: index, text, beam }) });
    const answer = await response.json();
    if (signal.aborted) return;
    box.textContent = answer.text ?? answer.error;
    box.classList.toggle("error", !("text" in answer));
    const told = () => `${answer.milliseconds.toFixed(1)} ms, log-probability ${answer.score.toFixed(2)}`;
    detail.textContent = answer.text ? told() : "";
  } catch (error) {
    if (signal.aborted) return;
    box.textContent = "No answer: has the demo been stopped?";
    box.classList.add("error");
    detail.textContent = "";
  }
  box.classList.remove("waiting");
}

function update() {
  asked.abort();
  asked = new AbortController();
  const beam = Number(document.querySelector("input[name=beam]:checked").value);
  models.forEach((_, index) => ask(index, $("source").value, beam, asked.signal));
}

if (languages.length) {
  const [from, to] = languages.map(language);
  document.title = $("title").textContent = `${from} to ${to}, side by side`;
  $("source-language").textContent = from;
  $("source").lang = languages[0].replaceAll("_", "-");
  answers.forEach(({ box }) => (box.lang = languages[1].replaceAll("_", "-")));
}
for (const example of examples) {
  const button = element("button", { type: "button", lang: $("source").lang }, example);
  button.addEventListener("click", () => (($("source").value = example), update()));
  $("examples").append(button, " ");
  $("examples").hidden = false;
}
$("source").maxLength = maxCharacters;
$("source").value = examples[0] ?? "";
$("source").addEventListener("input", update);
document.querySelectorAll("input[name=beam]").forEach((input) => input.addEventListener("change", update));
update();
