// The documents of a container: page by page in key order, or those that a condition picks.

import * as api from "./api.js";
import { announce, bytes, count, duration, failure, h, plural, show, time, visible } from "./dom.js";
import { compact, member, own } from "./json.js";
import { head, link } from "./sidebar.js";

const FILTERS = {
  starts: { label: "id begins with", placeholder: "cart-", sql: "SELECT * FROM c WHERE STARTSWITH(c.id, @text)" },
  contains: { label: "id contains", placeholder: "2026", sql: "SELECT * FROM c WHERE CONTAINS(c.id, @text, true)" },
  where: { label: "where", placeholder: 'c.country = "FR" AND c.total > 100 ORDER BY c.total DESC', sql: null },
};

/** What was filtered by, for each container, until the page is closed: coming back from a document finds it again. */
const remembered = new Map();

export async function items(body, { place }) {
  const definition = await api.container(place);
  const paths = definition.partitionKey.paths;
  const state = remembered.get(`${place.db}\n${place.coll}`) ?? { filter: "starts", text: "", tokens: [null] };
  remembered.set(`${place.db}\n${place.coll}`, state);

  const about = h("p", { class: "about" });
  const table = h("div", { class: "results", "aria-busy": "true" });
  const pager = h("nav", { class: "pager", aria: { label: "Pages" } });
  const kind = h(
    "select",
    { id: "filter-kind", "aria-label": "What to look for" },
    Object.entries(FILTERS).map(([name, { label }]) =>
      h("option", { value: name, selected: name === state.filter }, label),
    ),
  );
  const field = h("input", {
    id: "filter",
    type: "search",
    value: state.text,
    spellcheck: "false",
    autocomplete: "off",
    "aria-label": "Filter",
    placeholder: FILTERS[state.filter].placeholder,
  });
  kind.addEventListener("change", () => {
    field.placeholder = FILTERS[kind.value].placeholder;
    field.focus();
  });
  const form = h(
    "form",
    {
      class: "filter",
      role: "search",
      onsubmit: (event) => {
        event.preventDefault();
        Object.assign(state, { filter: kind.value, text: field.value, tokens: [null] });
        load();
      },
    },
    kind,
    field,
    h("button", {}, "Find"),
    h("span", { class: "spacer" }),
    h("a", { class: "button primary", href: link(place, "new") }, "New document"),
  );
  field.addEventListener("search", () => form.requestSubmit());
  show(body, head(place, "items"), about, form, table, pager);

  // Measuring takes the server a moment; the documents need not wait for it.
  api.spaceOf(place).then(
    (space) => show(about, describe(space, paths)),
    () => show(about),
  );

  let stop = new AbortController();
  async function load() {
    stop.abort();
    stop = new AbortController();
    table.setAttribute("aria-busy", "true");
    const token = state.tokens.at(-1);
    try {
      const page =
        state.text.trim() === ""
          ? await api.list(place, token, stop.signal)
          : await filtered(place, state, token, stop.signal);
      const first = (state.tokens.length - 1) * 100 + 1;
      show(
        table,
        page.items.length > 0
          ? rows(place, page.items, paths)
          : h("p", { class: "empty" }, state.text ? "No document is like that." : "This container holds no documents."),
      );
      const turn = (label, enabled, change) =>
        h("button", { disabled: !enabled, onclick: () => (change(), load()) }, label);
      show(
        pager,
        turn("Previous", state.tokens.length > 1, () => state.tokens.pop()),
        h("span", {}, page.items.length > 0 ? `Documents ${count(first)}–${count(first + page.items.length - 1)}` : ""),
        turn("Next", page.next !== null, () => state.tokens.push(page.next)),
      );
      announce(plural(page.items.length, "document"));
    } catch (error) {
      if (error.name === "AbortError") return;
      show(table, failure(error, "These documents cannot be shown"));
      show(pager);
    }
    table.removeAttribute("aria-busy");
  }
  await load();
  return () => stop.abort();
}

function filtered(place, { filter, text }, token, signal) {
  const sql = FILTERS[filter].sql ?? `SELECT * FROM c WHERE ${text}`;
  return api.query(place, sql, FILTERS[filter].sql ? [{ name: "@text", value: text }] : [], token, signal);
}

function describe(space, paths) {
  const parts = [];
  if (space.size) {
    const { documents, documentBytes, versions, versionBytes, diskBytes, isExact } = space.size;
    const about = isExact ? "" : "about ";
    const older =
      versions > documents
        ? `, ${plural(versions - documents, "older version")} (${bytes(Math.max(0, versionBytes - documentBytes))})`
        : "";
    parts.push(
      `${about}${plural(documents, "document")}, ${bytes(documentBytes)}${older}`,
      diskBytes > 0 ? `${bytes(diskBytes)} on disk` : "on disk in the log only",
    );
  }
  const kept =
    space.retentionMs === null
      ? "superseded versions are kept for ever"
      : `superseded versions are kept for ${duration(space.retentionMs)}`;
  return [
    h("span", {}, "Partition key ", h("code", {}, paths.join(" "))),
    ...[...parts, kept].map((part) => h("span", {}, part)),
  ];
}

function rows(place, documents, paths) {
  const names = paths.map((path) => api.pathNames(path));
  const isId = names.length === 1 && names[0].join() === "id";
  const row = (item) => {
    const id = member(item, "id").text;
    const rest = own(item).members.filter(
      ([name]) => name !== "id" && !names.some((path) => path.length === 1 && path[0] === name),
    );
    const preview = compact({ kind: "object", members: rest.slice(0, 12) })
      .slice(1, 240)
      .replace(/}$/, "");
    const pk = api.keyOf(item, paths);
    return h(
      "tr",
      {},
      h("th", { scope: "row" }, h("a", { href: link(place, "doc", pk, id) }, h("bdi", {}, visible(id)))),
      isId ? null : h("td", { class: "key" }, h("bdi", {}, visible(api.keyText(pk)))),
      h("td", { class: "preview" }, h("bdi", {}, visible(preview))),
      h("td", { class: "when" }, time(Number(member(item, "_ts")?.raw ?? 0) * 1000)),
    );
  };
  return h(
    "table",
    { class: "list" },
    h("caption", { class: "unseen" }, "Documents"),
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        h("th", { scope: "col" }, "id"),
        isId ? null : h("th", { scope: "col" }, paths.join(" ")),
        h("th", { scope: "col" }, "Content"),
        h("th", { scope: "col", class: "when" }, "Changed"),
      ),
    ),
    h("tbody", {}, documents.map(row)),
  );
}
