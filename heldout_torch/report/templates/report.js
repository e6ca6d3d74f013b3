// Fills the galleries, the table of pairs and the view of an example from the scripts in data/, which are loaded when
// they are needed. All text goes in as text, never as markup.
"use strict";

const heldout = (() => {
  const data = {};
  const waiting = {};
  const PAGE = 20; // rows of pairs that appear at once
  const HELPED = 12; // test examples in a row

  // ---- data

  function add(name, value) {
    data[name] = value;
    if (name === "group-all") start();
    if (waiting[name]) waiting[name].resolve(value);
  }

  function load(name) {
    if (data[name]) return Promise.resolve(data[name]);
    if (!waiting[name]) {
      waiting[name] = Promise.withResolvers ? Promise.withResolvers() : deferred();
      const script = document.createElement("script");
      script.src = `data/${name}.js`;
      script.onerror = () => {
        waiting[name].reject(new Error(`data/${name}.js is missing`));
        delete waiting[name];
      };
      document.head.append(script);
    }
    return waiting[name].promise;
  }

  function deferred() {
    const result = {};
    result.promise = new Promise((resolve, reject) => Object.assign(result, { resolve, reject }));
    return result;
  }

  // A row of columns that carry their own `index`, as an object.
  function row(columns, index) {
    columns.place ??= new Map(columns.index.map((example, place) => [example, place]));
    return at(columns, columns.place.get(index), index);
  }

  function at(columns, place, index) {
    const result = { index };
    for (const [name, values] of Object.entries(columns)) {
      if (name !== "index" && Array.isArray(values)) result[name] = values[place];
    }
    return result;
  }

  // ---- small pieces of page

  function element(tag, properties = {}, ...children) {
    const result = Object.assign(document.createElement(tag), properties);
    result.append(...children);
    return result;
  }

  const className = (label) => data.setup.classes[label] ?? (label < 0 ? "not known" : `label ${label}`);
  const number = (value, digits = 2) => (value === null ? "none" : value.toFixed(digits).replace(/^-(0\.0+)$/, "$1"));
  const interval = (low, high, digits = 2) => (low === null ? "" : `${number(low, digits)} to ${number(high, digits)}`);
  const estimate = (value, digits = 2) => (value === null ? "no estimate" : number(value, digits));
  const withInterval = (value, low, high, digits = 2) =>
    value === null || low === null ? estimate(value, digits) : `${number(value, digits)} (${interval(low, high, digits)})`;
  const share = (right, runs) => (runs ? `${((100 * right) / runs).toFixed(1)} %` : "none");

  const seen = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        seen.unobserve(entry.target);
        entry.target.style.backgroundImage = `url("${entry.target.dataset.sprite}")`;
      }
    },
    { rootMargin: "200px" }
  );

  function image(picture, alternative, size = 64) {
    if (picture < 0 || picture === undefined) {
      return element("span", { className: "image missing", role: "img", ariaLabel: `${alternative}; no image` }, "no image");
    }
    const { side, ending } = data.setup.sprite;
    const result = element("span", { className: "image", role: "img", ariaLabel: alternative });
    const block = Math.floor(picture / (side * side));
    const cell = picture % (side * side);
    const inSprite = Math.min(side * side, data.setup.pictures - block * side * side);
    result.dataset.sprite = `images/${block}.${ending}`;
    result.style.backgroundSize = `${side * size}px ${Math.ceil(inSprite / side) * size}px`;
    result.style.backgroundPosition = `-${(cell % side) * size}px -${Math.floor(cell / side) * size}px`;
    seen.observe(result);
    return result;
  }

  function card(example, value, ...captions) {
    const result = element(
      "button",
      { type: "button", className: "card" },
      image(example.picture, `Training example ${example.index}`),
      element("span", { className: "value" }, value),
      ...[...captions, className(example.label)].map((caption) => element("span", { className: "caption" }, caption))
    );
    result.addEventListener("click", () => (location.hash = `example-${example.index}`));
    return result;
  }

  // ---- galleries

  async function fillGallery(what, label) {
    const group = await load(`group-${label}`);
    for (const list of document.querySelectorAll(`[data-gallery="${what}"] [data-list]`)) {
      const score = list.dataset.value === "score";
      const examples = group[list.dataset.list].map((index) => row(group.examples, index));
      const cards = examples.map((example) =>
        element("li", {}, score
          ? card(example, estimate(example.score), interval(example.score_low, example.score_high))
          : card(example, estimate(example.memorization), interval(example.low, example.high)))
      );
      const none = label === "all" ? "No such example." : `No such example in class ${className(label)}.`;
      list.replaceChildren(...(cards.length ? cards : [element("li", { className: "empty soft" }, none)]));
    }
  }

  // ---- pairs

  const order = { by: "influence", descending: true, label: "all", shown: PAGE };

  function pairRows() {
    const pairs = data.pairs;
    if (!pairs.rows) {
      const rows = new Map();
      pairs.train.forEach((train, place) => {
        if (!rows.has(train)) rows.set(train, { ...row(pairs.examples, train), influence: pairs.influence[place], pairs: [] });
        rows.get(train).pairs.push(place);
      });
      pairs.rows = [...rows.values()];
    }
    const rows = pairs.rows.filter((one) => order.label === "all" || one.label === Number(order.label));
    const sign = order.descending ? -1 : 1;
    return rows.sort((one, other) => sign * (one[order.by] - other[order.by]) || one.index - other.index);
  }

  function helpedCard(place) {
    const pairs = data.pairs;
    const test = row(pairs.tests, pairs.test[place]);
    const name = `Test example ${test.index}, class ${className(test.label)}`;
    const captions = [interval(pairs.low[place], pairs.high[place]), `test ${test.index}`, `${share(test.accuracy, 1)} right`];
    const rate = pairs.false_discovery_rate[place];
    if (rate > 0.05) captions.push(`may be chance: FDR ${number(rate)}`);
    return element(
      "li",
      { className: "card" },
      image(test.picture, name),
      element("span", { className: "value" }, number(pairs.influence[place])),
      ...captions.map((caption) => element("span", { className: "caption" }, caption))
    );
  }

  function fillPairs() {
    const rows = pairRows();
    const body = rows.slice(0, order.shown).map((example) => {
      const helped = example.pairs.slice(0, HELPED).map(helpedCard);
      if (example.pairs.length > HELPED) helped.push(element("li", { className: "soft" }, `and ${example.pairs.length - HELPED} more`));
      return element(
        "tr",
        {},
        element("td", {}, card(example, `train ${example.index}`)),
        element("td", { className: "number" }, withInterval(example.memorization, example.low, example.high)),
        element("td", {}, element("ul", { className: "helped" }, ...helped))
      );
    });
    const table = document.getElementById("pairs-table");
    table.tBodies[0].replaceChildren(...body);
    for (const header of table.querySelectorAll("[data-sort]")) {
      if (header.dataset.sort === order.by) header.ariaSort = order.descending ? "descending" : "ascending";
      else header.removeAttribute("aria-sort");
    }
    const of = order.label === "all" ? "" : ` of class ${className(order.label)}`;
    const count = rows.reduce((sum, one) => sum + one.pairs.length, 0);
    document.getElementById("pairs-status").textContent =
      `${rows.length} training examples${of} in ${count} pairs` + (rows.length > order.shown ? `, the first ${order.shown} shown` : "");
    document.getElementById("pairs-more").hidden = rows.length <= order.shown;
  }

  async function showPairs(change) {
    await load("pairs");
    Object.assign(order, change);
    fillPairs();
  }

  // ---- one example

  function runStrips(example) {
    if (!example.runs) {
      return [element("p", { className: "soft" }, "Single runs are kept for the most memorized examples only.")];
    }
    const bytes = Uint8Array.from(atob(example.runs), (character) => character.charCodeAt(0));
    const bit = (start, run) => (bytes[start + (run >> 3)] >> (run & 7)) & 1;
    const groups = { "held it out": [], "trained on it": [] };
    data.setup.runs.forEach((name, run) => {
      const group = bit(0, run) ? "trained on it" : "held it out";
      groups[group].push({ name, right: bit(bytes.length / 2, run) });
    });
    return Object.entries(groups).flatMap(([what, runs]) => {
      const right = runs.filter((run) => run.right).map((run) => run.name);
      const wrong = runs.filter((run) => !run.right).map((run) => run.name);
      const squares = runs
        .sort((one, other) => other.right - one.right)
        .map((run) => element("li", { className: run.right ? "right" : "wrong", title: `run ${run.name}: ${run.right ? "right" : "wrong"}` }));
      return [
        element("h3", {}, `The ${runs.length} runs that ${what}`),
        element("ul", { className: "strip", ariaHidden: "true" }, ...squares),
        element(
          "details",
          {},
          element("summary", {}, `${right.length} right, ${wrong.length} wrong: their numbers`),
          element("p", {}, `Right: ${right.join(", ") || "none"}.`),
          element("p", {}, `Wrong: ${wrong.join(", ") || "none"}.`)
        ),
      ];
    });
  }

  function table(caption, heads, rows) {
    const cells = rows.map(([name, ...values]) =>
      element("tr", {}, element("th", { scope: "row" }, name), ...values.map((value) => element("td", { className: "number" }, value)))
    );
    const head = heads.map((name, place) => element("th", { scope: "col", className: place ? "number" : "" }, name));
    return element("table", {}, element("caption", {}, caption), element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...cells));
  }

  function helpedBy(index) {
    const places = [...data.pairs.train.keys()].filter((place) => data.pairs.train[place] === index);
    if (!places.length) return [];
    return [element("h3", {}, "Test examples it helps"), element("ul", { className: "helped" }, ...places.map(helpedCard))];
  }

  async function showExample(index) {
    const block = Math.floor(index / data.setup.block);
    const [columns] = await Promise.all([load(`examples-${block}`), load("pairs")]);
    const example = at(columns, index - block * data.setup.block, index);
    const legend = element(
      "p",
      { className: "soft" },
      "Each square is a run:",
      element("span", { className: "legend", ariaHidden: "true" }),
      "right",
      element("span", { className: "legend wrong", ariaHidden: "true" }),
      "wrong"
    );
    const ratios = data.setup.ratios.map((ratio, place) => [String(ratio), number(example.by_ratio[place])]);
    const byRatio = table("Accuracy when held out, by subset ratio", ["subset ratio", "accuracy"], ratios);
    byRatio.className = "small";
    document.getElementById("example-title").textContent = `Training example ${index}, class ${className(example.label)}`;
    document.getElementById("example-body").replaceChildren(
      element(
        "div",
        { className: "example" },
        image(example.picture, `Training example ${index}`, 160),
        element(
          "div",
          {},
          table("Estimates, with 95 % intervals", ["", "value"], [
            ["memorization", withInterval(example.memorization, example.low, example.high, 3)],
            ["C-score", withInterval(example.score, example.score_low, example.score_high, 3)],
          ]),
          table("How often runs are right", ["runs that", "number", "right", "share"], [
            ["trained on it", String(example.trained), String(example.trained_right), share(example.trained_right, example.trained)],
            ["held it out", String(example.held), String(example.held_right), share(example.held_right, example.held)],
          ])
        )
      ),
      ...(ratios.length > 1 ? [byRatio] : []),
      ...helpedBy(index),
      ...runStrips(example),
      ...(example.runs ? [legend] : [])
    );
    const dialog = document.getElementById("example");
    if (!dialog.open) dialog.showModal();
    document.getElementById("example-title").focus();
  }

  function followHash() {
    const match = /^#example-(\d+)$/.exec(location.hash);
    const dialog = document.getElementById("example");
    if (match && Number(match[1]) < data.setup.examples) showExample(Number(match[1]));
    else if (dialog.open) dialog.close();
  }

  // ---- start

  function start() {
    fillGallery("gallery", "all");
    fillGallery("consistency", "all");
    for (const filter of document.querySelectorAll("[data-filter]")) {
      filter.value = "all"; // browsers keep a choice over a reload
      filter.addEventListener("change", () => {
        if (filter.dataset.filter === "pairs") showPairs({ label: filter.value, shown: PAGE });
        else fillGallery(filter.dataset.filter, filter.value);
      });
    }
    const pairs = document.getElementById("pairs-table");
    if (pairs) {
      for (const header of pairs.querySelectorAll("[data-sort]")) {
        const by = header.dataset.sort;
        header.querySelector("button").addEventListener("click", () =>
          showPairs({ by, descending: order.by === by ? !order.descending : by !== "index", shown: PAGE })
        );
      }
      document.getElementById("pairs-more").addEventListener("click", () => showPairs({ shown: order.shown + PAGE }));
      const near = new IntersectionObserver((entries) => {
        if (!entries.some((entry) => entry.isIntersecting)) return;
        near.disconnect();
        showPairs({});
      }, { rootMargin: "600px" });
      near.observe(pairs);
    }
    document.getElementById("lookup").addEventListener("submit", (event) => {
      event.preventDefault();
      location.hash = `example-${Number(document.getElementById("lookup-index").value)}`;
      followHash();
    });
    const dialog = document.getElementById("example");
    let opener = null;
    dialog.querySelector("[data-close]").addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    dialog.addEventListener("close", () => {
      if (location.hash.startsWith("#example-")) history.replaceState(null, "", location.pathname + location.search);
      if (opener) opener.focus();
    });
    document.addEventListener("click", (event) => (opener = event.target.closest("button.card, #lookup button") ?? opener), true);
    window.addEventListener("hashchange", followHash);
    followHash();
  }

  return { add };
})();
