"use strict";
// What the exported page and the demo's page share.

const $ = (id) => document.getElementById(id);
const SVG = new Set(["svg", "rect", "text", "title"]);

// Return a new element of HTML or SVG.
function element(name, attributes = {}, ...children) {
  const space = SVG.has(name) ? "http://www.w3.org/2000/svg" : "http://www.w3.org/1999/xhtml";
  const made = document.createElementNS(space, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// Return a language's English name, or its code.
function language(code) {
  try {
    return new Intl.DisplayNames(["en"], { type: "language" }).of(code.replaceAll("_", "-")) ?? code;
  } catch {
    return code;
  }
}
