// The change feed of a container, as it happens. The server holds each request back until there is something to tell, so
// nothing is polled.

import * as api from "./api.js";
import { announce, bytes, clockTime, count, failure, fullTime, h, plural, show, visible } from "./dom.js";
import { changes, pathText } from "./diff.js";
import { compact, member, own } from "./json.js";
import { head, link } from "./sidebar.js";

const ROWS_MAX = 300;

export async function feed(body, { place }) {
  const [definition, stats] = await Promise.all([api.container(place), api.stats()]);
  const paths = definition.partitionKey.paths;
  const rows = h("tbody", {});
  const status = h("span", { class: "live", role: "status" });
  const total = h("span", { class: "muted" });
  const notice = h("div", {});
  const waiting = h(
    "p",
    { class: "empty" },
    "Waiting for a change. Whatever is written to this container appears here.",
  );
  let [position, stop, seen, isLive] = [null, null, 0, false];

  const toggle = h("button", { class: "primary", onclick: () => (isLive ? pause() : follow()) }, "Pause");
  const clear = h(
    "button",
    {
      onclick: () => {
        show(rows);
        waiting.hidden = false;
      },
    },
    "Clear",
  );
  const since = h(
    "select",
    {
      "aria-label": "Where to begin",
      onchange: () => {
        pause();
        show(rows);
        position = begin();
        follow();
      },
    },
    h("option", { value: "0" }, "from now on"),
    h("option", { value: "100" }, "from 100 commits ago"),
    h("option", { value: "1000" }, "from 1,000 commits ago"),
  );
  show(
    body,
    head(place, "feed"),
    h("div", { class: "actions" }, toggle, clear, since, status, h("span", { class: "spacer" }), total),
    notice,
    h(
      "div",
      { class: "results" },
      h(
        "table",
        { class: "list feed" },
        h("caption", { class: "unseen" }, "Changes, newest first"),
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            h("th", { scope: "col", class: "figure" }, "Commit"),
            h("th", { scope: "col" }, "Time"),
            h("th", { scope: "col" }, "Change"),
            h("th", { scope: "col" }, "Document"),
            h("th", { scope: "col" }, "What"),
          ),
        ),
        rows,
      ),
      waiting,
    ),
  );
  const begin = () => (since.value === "0" ? "*" : `"${Math.max(0, stats.lastCommit - Number(since.value))}"`);

  function pause() {
    isLive = false;
    stop?.abort();
    toggle.textContent = "Go on";
    status.textContent = "Paused";
    status.classList.remove("on");
  }

  async function follow() {
    isLive = true;
    toggle.textContent = "Pause";
    status.textContent = "Live";
    status.classList.add("on");
    show(notice);
    const own = (stop = new AbortController());
    try {
      while (!own.signal.aborted) {
        const told = await api.changes(place, position, own.signal);
        if (own.signal.aborted) return;
        position = told.position;
        if (told.entries.length > 0) put(told.entries);
      }
    } catch (error) {
      if (error.name === "AbortError") return;
      pause();
      // The state of so long ago may be gone; now is always there.
      if (error.status === 400 && position !== "*") position = "*";
      show(notice, failure(error, "The feed stopped"));
    }
  }

  function put(entries) {
    seen += entries.length;
    waiting.hidden = true;
    rows.prepend(
      ...entries
        .slice(-ROWS_MAX)
        .reverse()
        .map((entry) => row(place, paths, entry)),
    );
    while (rows.children.length > ROWS_MAX) rows.lastChild.remove();
    total.textContent = plural(seen, "change");
    announce(plural(entries.length, "change"));
  }

  position = begin();
  follow();
  return () => stop?.abort();
}

const WORDS = { create: ["created", "good"], replace: ["replaced", ""], delete: ["deleted", "bad"] };

function row(place, paths, entry) {
  const metadata = JSON.parse(compact(member(entry, "metadata")));
  const [current, previous] = [member(entry, "current"), member(entry, "previous")];
  const isGone = metadata.operationType === "delete";
  const item = isGone ? previous : current;
  const id = isGone ? (metadata.id ?? "?") : (member(current, "id")?.text ?? "?");
  const pk =
    item && item.members.length > 0
      ? api.keyOf(item, paths)
      : metadata.partitionKey
        ? JSON.stringify(metadata.partitionKey)
        : null;
  const [word, kind] = metadata.timeToLiveExpired
    ? ["expired", "bad"]
    : (WORDS[metadata.operationType] ?? [metadata.operationType, ""]);
  return h(
    "tr",
    { class: "fresh" },
    h("td", { class: "figure" }, count(metadata.lsn)),
    h("td", { title: fullTime(metadata.crts * 1000) }, clockTime(metadata.crts * 1000).slice(0, 8)),
    h("td", {}, h("span", { class: `badge ${kind}` }, word)),
    h(
      "td",
      {},
      pk ? h("a", { href: link(place, "doc", pk, id) }, h("bdi", {}, visible(id))) : h("bdi", {}, visible(id)),
    ),
    h("td", { class: "preview" }, what(metadata.operationType, current, previous)),
  );
}

function what(operation, current, previous) {
  if (operation === "delete") return "";
  const now = own(current);
  if (operation === "create") return bytes(compact(now).length);
  if (!previous || previous.members.length === 0) return "what it replaced is no longer kept";
  const list = changes(own(previous), now);
  if (list.length === 0) return "written again, the same";
  const short = (value) => {
    const text = value === undefined ? "—" : compact(value);
    return visible(text.length > 28 ? `${text.slice(0, 27)}…` : text);
  };
  const one = ({ path, before, after }) =>
    h(
      "span",
      { class: "delta" },
      h("b", {}, h("bdi", {}, visible(pathText(path)))),
      " ",
      h("del", {}, short(before)),
      " → ",
      h("ins", {}, short(after)),
    );
  return [list.slice(0, 3).map(one), list.length > 3 ? ` and ${list.length - 3} more` : ""];
}
