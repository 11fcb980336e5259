// Shows documents and comparisons of them. Owns how many lines are put on the page at once: a document of 2 MiB must not
// make the reader wait.

import { count, h, plural, visible } from "./dom.js";
import { rows, within } from "./diff.js";

const LINES_MAX = 1500;
const LINE_CHARS_MAX = 1200;
/** Unchanged lines that stay around a change. */
const CONTEXT = 3;

/** A JSON text with its parts in colours. Long ones are shown in part, and whole when asked. */
export function source(text) {
  const lines = text.split("\n");
  const box = h("pre", { class: "source", tabindex: "0", role: "region", aria: { label: "Document" } });
  const put = (from, to) => box.append(...lines.slice(from, to).flatMap((line) => [...coloured(cut(line)), "\n"]));
  put(0, LINES_MAX);
  if (lines.length <= LINES_MAX) return box;
  const more = h(
    "button",
    {
      onclick: () => {
        put(LINES_MAX, lines.length);
        more.remove();
      },
    },
    `Show the other ${count(lines.length - LINES_MAX)} lines`,
  );
  return h("div", {}, box, more);
}

function cut(line) {
  const seen = visible(line.slice(0, LINE_CHARS_MAX));
  return line.length <= LINE_CHARS_MAX ? seen : `${seen}… (${count(line.length - LINE_CHARS_MAX)} more characters)`;
}

const TOKEN = /("(?:[^"\\]|\\.)*")(\s*:)?|(-?\d[\d.eE+-]*)|\b(true|false|null)\b/g;

/** The parts of a line: names, texts, numbers and words as elements, all else as text. */
function coloured(line) {
  const out = [];
  let at = 0;
  for (const found of line.matchAll(TOKEN)) {
    out.push(line.slice(at, found.index));
    const [all, string, colon] = found;
    const kind = string ? (colon ? "n" : "s") : found[3] ? "d" : "w";
    out.push(h("span", { class: kind }, string ?? all));
    if (colon) out.push(colon);
    at = found.index + all.length;
  }
  out.push(line.slice(at));
  return out;
}

/** Two texts side by side; null is a document that is not there. */
export function sideBySide(before, after, labels) {
  const all = rows(before, after);
  const changed = all.filter((row) => row.kind !== "same").length;
  const body = h("tbody", {});
  // With nothing to see but what is the same, all of it is context.
  const isNear = new Array(all.length).fill(changed === 0);
  all.forEach((row, at) => {
    if (row.kind !== "same")
      for (let near = Math.max(0, at - CONTEXT); near <= Math.min(all.length - 1, at + CONTEXT); near += 1)
        isNear[near] = true;
  });
  let put = 0;
  for (let at = 0; at < all.length && put < LINES_MAX;) {
    if (isNear[at]) {
      body.append(line(all[at]));
      at += 1;
      put += 1;
      continue;
    }
    let end = at;
    while (end < all.length && !isNear[end]) end += 1;
    if (end - at < 3) {
      for (; at < end; at += 1) body.append(line(all[at]));
    } else {
      body.append(fold(all.slice(at, end)));
      at = end;
    }
    put += 1;
  }
  if (put >= LINES_MAX)
    body.append(
      h("tr", { class: "fold" }, h("td", { colspan: "4" }, "The rest of this comparison is too long to show.")),
    );
  const side = (label, isOld) => h("th", { colspan: "2", scope: "colgroup", class: isOld ? "old" : "new" }, label);
  return h(
    "div",
    { class: "diff", tabindex: "0", role: "region", aria: { label: `Changes from ${labels[0]} to ${labels[1]}` } },
    h(
      "table",
      {},
      h(
        "caption",
        { class: "unseen" },
        changed === 0 ? "The two versions hold the same." : `${plural(changed, "line")} differ.`,
      ),
      h(
        "colgroup",
        {},
        ["number", "", "number", ""].map((name) => h("col", { class: name })),
      ),
      h("thead", {}, h("tr", {}, side(labels[0], true), side(labels[1], false))),
      body,
    ),
  );
}

function line(row) {
  const cells = (part, other, isOld) => {
    if (!part) return [h("td", { class: "number" }), h("td", { class: "none" })];
    const mark = row.kind === "same" ? "" : isOld ? "−" : "+";
    const content = row.kind === "changed" && other ? inside(part.text, other.text) : cut(part.text);
    const spoken = row.kind === "same" ? null : h("span", { class: "unseen" }, isOld ? "removed: " : "added: ");
    return [
      h("td", { class: "number" }, String(part.number)),
      h("td", { class: "text", data: { mark } }, spoken, content),
    ];
  };
  return h("tr", { class: row.kind }, cells(row.left, row.right, true), cells(row.right, row.left, false));
}

/** A line with the part marked in which it differs from the other. */
function inside(text, other) {
  const { head, tail } = within(text, other);
  const middle = text.slice(head, text.length - tail);
  if (text.length > LINE_CHARS_MAX || middle === "" || head + tail < text.trim().length / 4) return cut(text);
  return [visible(text.slice(0, head)), h("mark", {}, visible(middle)), visible(text.slice(text.length - tail))];
}

function fold(hidden) {
  const row = h("tr", { class: "fold" });
  const open = () => {
    const lines = hidden.slice(0, LINES_MAX).map(line);
    row.replaceWith(...lines);
    lines[0].closest(".diff").focus();
  };
  row.append(
    h(
      "td",
      { colspan: "4" },
      h("button", { class: "quiet", onclick: open }, `Show ${plural(hidden.length, "unchanged line")}`),
    ),
  );
  return row;
}
