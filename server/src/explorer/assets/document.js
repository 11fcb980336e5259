// One document: its versions as a timeline, what any of them holds, and what changed between any two.

import * as api from "./api.js";
import {
  announce,
  bytes,
  clockTime,
  count,
  duration,
  failure,
  fullTime,
  h,
  plural,
  show,
  time,
  visible,
} from "./dom.js";
import { changes, pathText } from "./diff.js";
import { sideBySide, source } from "./diffview.js";
import { own, pretty } from "./json.js";
import { link } from "./sidebar.js";

/** For so many of the newest versions the timeline says what changed. */
const TOLD = 12;

export async function document(body, { place, pk, id, compare }) {
  const [found, space] = await Promise.all([api.versions(place, pk, id), api.spaceOf(place)]);
  const state = { list: found.list, next: found.next, bodies: new Map(), to: 0, from: 1, mode: "changes" };
  if (state.list.length === 1) state.mode = "whole";
  // An address may name two versions by their commits, so that what is seen can be shown to others.
  const at = (seq) => state.list.findIndex((version) => version.seq === Number(seq));
  if (compare.length === 2 && at(compare[0]) >= 0 && at(compare[1]) >= 0)
    Object.assign(state, { to: at(compare[0]), from: at(compare[1]) });

  /** What a version holds, without what the server adds; null for a tombstone. */
  const content = (version) => {
    if (!version || version.deleted) return Promise.resolve(null);
    if (!state.bodies.has(version.seq)) {
      const reading = api.read(place, pk, id, version.etag).then(({ item }) => own(item));
      state.bodies.set(version.seq, reading);
      reading.catch(() => state.bodies.delete(version.seq));
    }
    return state.bodies.get(version.seq);
  };

  const newest = state.list[0];
  const head = h(
    "header",
    { class: "head" },
    h(
      "p",
      { class: "crumb" },
      place.db,
      " / ",
      h("a", { href: link(place, "items") }, place.coll),
      " / ",
      h("span", { class: "key" }, h("bdi", {}, visible(api.keyText(pk)))),
    ),
    h("h1", {}, h("bdi", {}, visible(id))),
    h(
      "div",
      { class: "actions" },
      newest.deleted
        ? h("span", { class: "badge bad" }, "Deleted")
        : [
            h("a", { class: "button primary", href: link(place, "edit", pk, id) }, "Edit"),
            h("button", { class: "danger", onclick: () => remove(place, pk, id, newest) }, "Delete"),
          ],
    ),
  );
  const timeline = h("ol", { class: "timeline" });
  const pane = h("section", { class: "pane", aria: { label: "Version" } });
  show(
    body,
    head,
    h(
      "div",
      { class: "split" },
      h("section", { class: "history", aria: { label: "Versions" } }, h("h2", {}, "Versions"), timeline),
      pane,
    ),
  );

  async function paint() {
    draw();
    const [to, from] = [state.list[state.to], state.list[state.from]];
    const number = ++painting;
    try {
      const [now, before] = await Promise.all([content(to), state.mode === "changes" ? content(from) : null]);
      if (number !== painting) return;
      show(
        pane,
        bar(),
        state.mode === "whole" || !from
          ? whole(now, to)
          : sideBySide(before && pretty(before), now && pretty(now), [label(from), label(to)]),
      );
    } catch (error) {
      if (number === painting) show(pane, bar(), failure(error, "This version cannot be read"));
    }
  }
  let painting = 0;

  const label = (version) =>
    `Version ${count(version.seq)}${version === newest ? (version.deleted ? " (deleted)" : " (current)") : version.deleted ? " (deleted)" : ""}`;

  const whole = (value, version) =>
    value
      ? source(pretty(value))
      : h(
          "p",
          { class: "empty" },
          `The document was deleted by commit ${count(version.seq)}, ${fullTime(version.timeMs)}.`,
        );

  /** Which version is shown, beside which other. */
  function bar() {
    const choose = (name, index, others) =>
      h(
        "select",
        {
          "aria-label": name,
          onchange: (event) =>
            pick(
              name === "Shown version"
                ? { to: Number(event.target.value) }
                : { from: Number(event.target.value), mode: "changes" },
            ),
        },
        state.list.map((version, at) =>
          others && at === state.to
            ? null
            : h(
                "option",
                { value: String(at), selected: at === index },
                `${label(version)} · ${clockTime(version.timeMs)}`,
              ),
        ),
      );
    const mode = (name, text) =>
      h(
        "button",
        {
          "aria-pressed": String(state.mode === name),
          onclick: () => pick({ mode: name }),
          disabled: name === "changes" && state.list.length < 2,
        },
        text,
      );
    const version = state.list[state.to];
    return h(
      "div",
      { class: "bar" },
      h(
        "div",
        { class: "modes", role: "group", aria: { label: "What to show" } },
        mode("changes", "Changes"),
        mode("whole", "Document"),
      ),
      h(
        "span",
        { class: "pickers" },
        choose("Shown version", state.to, false),
        state.mode === "changes" && state.list.length > 1
          ? [h("span", {}, "compared with"), choose("Compared with", Math.min(state.from, state.list.length - 1), true)]
          : null,
      ),
      h("span", { class: "spacer" }),
      h("code", { class: "etag", title: "The etag of the shown version" }, version.etag.replaceAll('"', "")),
      state.to > 0 && !version.deleted
        ? h(
            "a",
            { class: "button", href: link(place, "edit", pk, id, version.etag) },
            newest.deleted ? "Make it again as it was" : "Go back to this",
          )
        : null,
    );
  }

  function pick(change) {
    Object.assign(state, change);
    if (change.to !== undefined && change.from === undefined)
      state.from = Math.min(change.to + 1, state.list.length - 1);
    if (state.from === state.to) state.from = state.to === 0 ? 1 : state.to - 1;
    const [to, from] = [state.list[state.to], state.list[state.from]];
    if (from) history.replaceState(null, "", link(place, "doc", pk, id, String(to.seq), String(from.seq)));
    paint();
    announce(state.mode === "whole" || !from ? label(to) : `${label(to)} compared with ${label(from)}`);
  }

  function draw() {
    const focused = timeline.contains(globalThis.document.activeElement)
      ? [...timeline.querySelectorAll("button")].indexOf(globalThis.document.activeElement)
      : -1;
    const entries = state.list.map((version, index) => {
      const isFirst = version.previous === null;
      const told = h("span", { class: "told" });
      if (version.deleted) told.append("deleted");
      else if (isFirst) told.append("created");
      else if (index < TOLD && state.list[index + 1]) tell(told, version, state.list[index + 1]);
      const role = index === state.to ? "shown" : state.mode === "changes" && index === state.from ? "compared" : "";
      return h(
        "li",
        { class: `${version.deleted ? "tombstone" : ""} ${role}` },
        h(
          "button",
          { "aria-current": index === state.to ? "true" : null, onclick: () => pick({ to: index, from: undefined }) },
          h(
            "span",
            { class: "line" },
            h("strong", {}, `#${count(version.seq)}`),
            index === 0
              ? h(
                  "span",
                  { class: `badge ${version.deleted ? "bad" : "good"}` },
                  version.deleted ? "deleted" : "current",
                )
              : version.deleted
                ? h("span", { class: "badge bad" }, "tombstone")
                : null,
            role === "compared" ? h("span", { class: "badge" }, "compared") : null,
          ),
          told,
          h(
            "span",
            { class: "line muted" },
            time(version.timeMs),
            version.deleted ? null : h("span", {}, bytes(version.bytes)),
          ),
        ),
      );
    });
    show(timeline, entries, ending());
    if (focused >= 0) timeline.querySelectorAll("button")[focused]?.focus();
  }

  /** Fills in what a version changed, once both are read. */
  async function tell(told, version, before) {
    try {
      const [now, then] = await Promise.all([content(version), content(before)]);
      if (before.deleted) return told.append("created again");
      const list = changes(then, now);
      if (list.length === 0) return told.append("nothing changed");
      const paths = list.slice(0, 3).map(({ path }) => visible(pathText(path)));
      return told.append(h("bdi", {}, paths.join(", ")), list.length > 3 ? ` and ${count(list.length - 3)} more` : "");
    } catch {
      // What retention has just dropped says so when it is opened.
      return undefined;
    }
  }

  /** What is before the oldest version that is listed. */
  function ending() {
    const oldest = state.list.at(-1);
    if (state.next) {
      return h("li", { class: "end" }, h("button", { class: "quiet", onclick: more }, "Older versions"));
    }
    if (oldest.previous === null) return h("li", { class: "end" }, "Nothing before: here it was created.");
    const kept =
      space.retentionMs === null ? "" : ` This container keeps superseded versions for ${duration(space.retentionMs)}.`;
    return h(
      "li",
      { class: "end dropped" },
      `Older versions, from #${count(oldest.previous)} back, were dropped.${kept}`,
    );
  }

  async function more() {
    const older = await api.versions(place, pk, id, state.next);
    state.list.push(...older.list);
    state.next = older.next;
    draw();
    announce(plural(older.list.length, "older version"));
  }

  await paint();
}

async function remove(place, pk, id, version) {
  if (!confirm(`Delete ${visible(id)}, if it still is version ${count(version.seq)}?`)) return;
  try {
    await api.remove(place, pk, id, version.etag);
    announce("deleted");
  } catch (error) {
    alert(
      error.status === 412
        ? "Somebody has changed it meanwhile; nothing was deleted. Look at what it is now."
        : error.message,
    );
  }
  // Whatever came of it, the timeline shows it.
  dispatchEvent(new CustomEvent("again"));
}
