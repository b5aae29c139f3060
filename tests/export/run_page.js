// Run what an exported page computes, without a browser: node run_page.js PAGE < JSON of [function, argument] pairs.
const fs = require("fs");
const vm = require("vm");

const html = fs.readFileSync(process.argv[2], "utf8");
const block = (id) => html.match(new RegExp(`<script[^>]* id="${id}">([^]*?)</script>`))[1];
vm.runInThisContext(`${block("translator")}
  const model = JSON.parse(${JSON.stringify(block("model"))});
  const vocabulary = new Vocabulary(model), network = new Network(model);
  function translate([text, beam]) {
    const { pieces, slope, least } = model.limit;
    const source = vocabulary.encode(text).slice(0, pieces), limit = slope * source.length + least;
    if (!source.length) return "";
    const steps = search(network, source, { ...model.search, beam, limit });
    let step;
    while (!(step = steps.next()).done);
    return vocabulary.decode(step.value.ids, text);
  }
  const functions = {
    normalize,
    translate,
    encode: (text) => vocabulary.encode(text),
    decode: ([ids, source]) => vocabulary.decode(ids, source),
    placeholders: (text) => vocabulary.placeholders(text),
  };
  globalThis.call = ([name, argument]) => functions[name](argument);`);
process.stdout.write(JSON.stringify(JSON.parse(fs.readFileSync(0, "utf8")).map(call)));
