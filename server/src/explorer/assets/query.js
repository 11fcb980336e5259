// Questions in SQL to one container, with what they cost.

import * as api from "./api.js";
import { announce, count, failure, h, plural, show, visible } from "./dom.js";
import { compact, member, pretty } from "./json.js";
import { source } from "./diffview.js";
import { head, link } from "./sidebar.js";

/** The last text of each container, until the page is closed. */
const remembered = new Map();
const COLUMNS_MAX = 8;

export async function query(body, { place }) {
  const definition = await api.container(place);
  const paths = definition.partitionKey.paths;
  const where = `${place.db}\n${place.coll}`;
  const field = h("textarea", {
    id: "sql",
    rows: "5",
    spellcheck: "false",
    autocomplete: "off",
    aria: { describedby: "sql-help" },
  });
  field.value = remembered.get(where) ?? "SELECT * FROM c";
  const results = h("section", { class: "results", aria: { label: "Results" } });
  let stop = null;

  const form = h(
    "form",
    {
      class: "sql",
      onsubmit: (event) => {
        event.preventDefault();
        remembered.set(where, field.value);
        run(null, []);
      },
    },
    h("label", { for: "sql" }, "Query"),
    field,
    h(
      "div",
      { class: "actions" },
      h("button", { class: "primary" }, "Run"),
      h(
        "span",
        { id: "sql-help", class: "hint" },
        "Ctrl+Enter runs it. The container is ",
        h("code", {}, "c"),
        "; Cosmos SQL with JOIN, GROUP BY and functions.",
      ),
    ),
  );
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  show(body, head(place, "query"), form, results);

  async function run(token, before) {
    stop?.abort();
    stop = new AbortController();
    results.setAttribute("aria-busy", "true");
    const begun = performance.now();
    try {
      const page = await api.query(place, field.value, [], token, stop.signal);
      const all = [...before, ...page.items];
      const more = page.next ? h("button", { onclick: () => run(page.next, all) }, "More results") : null;
      show(
        results,
        cost(page, all.length, performance.now() - begun),
        all.length > 0 ? shape(place, paths, all) : h("p", { class: "empty" }, "No results."),
        more,
      );
      announce(plural(all.length, "result"));
    } catch (error) {
      if (error.name === "AbortError") return;
      show(results, failure(error, "The query cannot be answered"));
    }
    results.removeAttribute("aria-busy");
  }
  return () => stop?.abort();
}

/** What the page cost, from the headers that say it. */
function cost(page, total, ms) {
  const metrics = new Map(
    (page.headers.get("x-ms-documentdb-query-metrics") ?? "").split(";").map((pair) => pair.split("=")),
  );
  const facts = [
    ["Results", `${count(total)}${page.next ? ", and more" : ""}`],
    ["Documents read", count(Number(metrics.get("retrievedDocumentCount") ?? 0))],
    ["On the server", `${metrics.get("totalExecutionTimeInMs") ?? "?"} ms`],
    ["Until shown", `${ms.toFixed(0)} ms`],
    ["Charge", page.charge],
    ["Found by", index(page)],
  ];
  return h(
    "dl",
    { class: "facts" },
    facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
  );
}

function index(page) {
  try {
    const used = JSON.parse(atob(page.headers.get("x-ms-cosmos-index-utilization")));
    const names = [
      ...used.UtilizedSingleIndexes.map((one) => one.IndexSpec),
      ...used.UtilizedCompositeIndexes.map((one) => one.IndexSpecs.join(", ")),
    ];
    return names.join("; ").replace("/_epk/?", "a walk over all keys");
  } catch {
    return "?";
  }
}

/** Results as a table if they are objects with few members, else as JSON. */
function shape(place, paths, all) {
  const names = [
    ...new Set(all.slice(0, 50).flatMap((one) => (one.kind === "object" ? one.members.map(([name]) => name) : []))),
  ].filter((name) => !name.startsWith("_"));
  if (!all.every((one) => one.kind === "object") || names.length === 0 || names.length > COLUMNS_MAX) {
    return source(all.map((one) => pretty(one)).join("\n"));
  }
  const cell = (one, name) => {
    const value = member(one, name);
    const text = value === undefined ? "" : value.kind === "string" ? value.text : compact(value);
    const isDocument = name === "id" && member(one, "_rid") !== undefined;
    const shown = h("bdi", {}, visible(text.slice(0, 300)));
    return h(
      "td",
      { class: value?.kind === "number" ? "figure" : "" },
      isDocument ? h("a", { href: link(place, "doc", api.keyOf(one, paths), text) }, shown) : shown,
    );
  };
  return h(
    "table",
    { class: "list" },
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        names.map((name) =>
          h("th", { scope: "col", class: member(all[0], name)?.kind === "number" ? "figure" : "" }, visible(name)),
        ),
      ),
    ),
    h(
      "tbody",
      {},
      all.map((one) =>
        h(
          "tr",
          {},
          names.map((name) => cell(one, name)),
        ),
      ),
    ),
  );
}
