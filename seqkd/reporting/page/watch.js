"use strict";

// Asks for what the trainings told, draws it, and asks again.

const RENEWAL = 2000; // milliseconds
const RUNNING = 120; // seconds since the last word of a training that still runs
const WIDTH = 320, HEIGHT = 120;
const NAMES = {
  "train/loss": "loss, nats per target token", "dev/perplexity": "dev perplexity",
  "train/learning_rate": "learning rate", "train/tokens_per_second": "target tokens per second",
};

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text ?? "";
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function short(value) {
  return value >= 1000 ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(3)));
}

function drawing(points, zero) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("aria-hidden", "true");
  const [steps, values] = [0, 1].map((place) => points.map((point) => point[place]));
  const scale = (all, size, zero) => {
    const low = zero ? 0 : Math.min(...all), span = Math.max(...all) - low || 1;
    return (value) => 5 + ((value - low) / span) * (size - 10);
  };
  const across = scale(steps, WIDTH), up = scale(values, HEIGHT, zero);
  const line = document.createElementNS(svg.namespaceURI, "polyline");
  line.setAttribute("points", points.map(([step, value]) => `${across(step)},${HEIGHT - up(value)}`).join(" "));
  const end = document.createElementNS(svg.namespaceURI, "circle");
  const [step, value] = points.at(-1);
  for (const [key, at] of [["cx", across(step)], ["cy", HEIGHT - up(value)], ["r", 4]]) end.setAttribute(key, at);
  svg.append(line, end);
  return svg;
}

function card(name, points) {
  const [step, last] = points.at(-1);
  const values = points.map((point) => point[1]);
  const made = element("figure", "", { class: "live" });
  const range = `${short(Math.min(...values))} to ${short(Math.max(...values))}, update ${step.toLocaleString("en")}`;
  made.append(element("h4", NAMES[name] ?? name), element("strong", short(last)), drawing(points, name.endsWith("per_second")), element("small", range));
  return made;
}

function section(training, now) {
  const made = element("section");
  const silent = now - training.time;
  const state = silent < RUNNING ? "running" : `silent for ${Math.round(silent / 60)} minutes`;
  const cards = element("div", "", { class: "cards" });
  const names = new Set([...Object.keys(NAMES), ...Object.keys(training.metrics)]); // the loss first
  for (const name of names) if (training.metrics[name]?.length) cards.append(card(name, training.metrics[name]));
  made.append(element("h2", `${training.name}: ${state}`), cards);
  return made;
}

async function renew() {
  const status = document.querySelector("#status");
  try {
    const trainings = await (await fetch("live.json")).json();
    const now = Date.now() / 1000;
    document.querySelector("#trainings").replaceChildren(...trainings.map((training) => section(training, now)));
    if (trainings.length) status.textContent = `Renewed at ${new Date().toLocaleTimeString()}.`;
  } catch {
    status.textContent = "seqkd watch is no longer running.";
  }
  setTimeout(renew, RENEWAL);
}

renew();
