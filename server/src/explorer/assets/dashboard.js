// What the store is doing, in pictures. The server gives counts since its start; rates are the differences between two
// answers, and the past is what this page has seen since it was opened.

import * as api from "./api.js";
import { brief, bytes, clockTime, count, duration, failure, h, plural, show, time, visible } from "./dom.js";
import { chart } from "./chart.js";
import { link } from "./sidebar.js";

const EVERY = 1000;
const [SPAN_MIN, SPAN] = [30_000, 120_000];

/** Kept while the page is open, so that coming back to the dashboard does not begin anew. */
const samples = [];
let hotBefore = new Map();

const rate = (name) => (now, before, seconds) => (now[name] - before[name]) / seconds;
const READS = ["read", "query", "list", "changes"];
const sum = (of, names) => names.reduce((all, name) => all + (of.requests[name] ?? 0), 0);
const per = (now, before, of, by) => (now[by] > before[by] ? (now[of] - before[of]) / (now[by] - before[by]) : null);

const PICTURES = [
  { title: "Commits a second", hint: "Writes that were committed.", format: brief, colour: "c1", of: rate("commits") },
  {
    title: "Reads a second",
    hint: "Requests for items, queries and feeds included.",
    format: brief,
    colour: "c2",
    of: (now, before, seconds) => (sum(now, READS) - sum(before, READS)) / seconds,
  },
  {
    title: "Conflicts a second",
    hint: "Writes refused for what was there: 409 and 412.",
    format: brief,
    colour: "c4",
    of: (now, before, seconds) =>
      (now.conflicts + now.preconditionsFailed - before.conflicts - before.preconditionsFailed) / seconds,
  },
  {
    title: "Commit batch",
    hint: "Writes that shared one sync of the disk.",
    format: brief,
    colour: "c1",
    of: (now, before) => per(now, before, "commits", "groups"),
  },
  {
    title: "Sync latency",
    hint: "Writing and syncing one batch, on average.",
    format: duration,
    colour: "c3",
    of: (now, before) => {
      const micros = per(now, before, "groupMicros", "groups");
      return micros === null ? null : micros / 1000;
    },
  },
  {
    title: "Cache hits",
    hint: "Reads that were answered from memory.",
    format: (share) => `${Math.round(share * 100)} %`,
    colour: "c2",
    ceiling: 1,
    of: (now, before) => {
      const [hits, misses] = [now.cacheHits - before.cacheHits, now.cacheMisses - before.cacheMisses];
      return hits + misses > 0 ? hits / (hits + misses) : null;
    },
  },
];

export async function dashboard(body) {
  const summary = h("dl", { class: "facts" });
  const notice = h("div", {});
  const charts = PICTURES.map((picture) => ({ ...picture, ...chart(picture) }));
  const hot = h("section", { class: "card wide" });
  const pins = h("section", { class: "card wide" });
  const spaces = h("section", { class: "card wide" });
  show(
    body,
    h("header", { class: "head" }, h("h1", {}, "Dashboard")),
    notice,
    summary,
    h(
      "div",
      { class: "cards" },
      charts.map(({ card }) => card),
    ),
    h("div", { class: "cards two" }, h("div", { class: "column" }, hot), h("div", { class: "column" }, pins, spaces)),
  );

  let [timer, isOver, turn] = [null, false, 0];
  const measure = async () => {
    try {
      samples.push(await api.stats());
      while (samples.length > 0 && samples[0].nowMs < samples.at(-1).nowMs - SPAN - 5000) samples.shift();
      // After a restart counts begin anew.
      const restarted = samples.findLastIndex((sample) => sample.startedMs !== samples.at(-1).startedMs);
      if (restarted >= 0) samples.splice(0, restarted + 1);
      show(notice);
      paint();
      if (turn++ % 10 === 0)
        api.space().then(
          (list) => !isOver && space(spaces, list),
          () => {},
        );
    } catch (error) {
      if (!isOver) show(notice, failure(error, "No figures"));
    }
    if (!isOver) timer = setTimeout(measure, EVERY);
  };

  function paint() {
    const now = samples.at(-1);
    const span = Math.min(SPAN, Math.max(SPAN_MIN, now.nowMs - samples[0].nowMs));
    for (const { draw, of } of charts) {
      const points = samples.slice(1).map((sample, at) => {
        const seconds = (sample.nowMs - samples[at].nowMs) / 1000;
        // What happened while nobody looked is not known second by second.
        return { at: sample.nowMs, value: seconds > 0 && seconds < 5 ? of(sample, samples[at], seconds) : null };
      });
      draw(points, span, now.nowMs);
    }
    const facts = [
      ["Newest commit", `#${count(now.lastCommit)}`],
      ["Up for", duration(now.nowMs - now.startedMs)],
      ["Takes writes", now.writable ? "yes" : "no"],
      ["Waiting to be written", bytes(now.queuedBytes)],
      ["Feeds that wait", count(now.waitingFeeds)],
      ["Connections", count(now.connections)],
      ["Conflicts so far", count(now.conflicts + now.preconditionsFailed)],
      ["Version", now.version],
    ];
    show(
      summary,
      facts.map(([name, value]) =>
        h(
          "div",
          { class: name === "Takes writes" && !now.writable ? "wrong" : "" },
          h("dt", {}, name),
          h("dd", {}, value),
        ),
      ),
    );
    hottest(hot, now);
    pinned(pins, now);
    state(now);
  }

  await measure();
  return () => {
    isOver = true;
    clearTimeout(timer);
  };
}

function state(now) {
  const element = document.getElementById("state");
  element.textContent = now.writable ? "" : "takes no writes";
}

/** The items that writers race for. */
function hottest(card, now) {
  const before = samples.findLast((sample) => sample.nowMs <= now.nowMs - 5000) ?? samples[0];
  hotBefore = new Map(before.hot.map((one) => [`${one.database}\n${one.container}\n${one.id}`, one.count]));
  const seconds = Math.max(1, (now.nowMs - before.nowMs) / 1000);
  const list = now.hot.map((one) => ({
    ...one,
    rate:
      Math.max(
        0,
        one.count - (hotBefore.get(`${one.database}\n${one.container}\n${one.id}`) ?? (before === now ? one.count : 0)),
      ) / seconds,
  }));
  list.sort((a, b) => b.rate - a.rate || b.count - a.count);
  const most = Math.max(1, ...list.map((one) => one.count));
  const row = (one) => {
    const name = h("bdi", {}, visible(one.id));
    const place = { db: one.database, coll: one.container };
    return h(
      "tr",
      {},
      h(
        "th",
        { scope: "row" },
        one.partitionKey ? h("a", { href: link(place, "doc", one.partitionKey, one.id) }, name) : name,
        h("small", {}, `${visible(one.database)} / ${visible(one.container)}`),
      ),
      h("td", { class: "bar" }, meter(one.count / most, "c4")),
      h("td", { class: "figure" }, one.rate > 0 ? `${brief(one.rate)}/s` : "–"),
      h("td", { class: "figure" }, `${one.error > 0 ? "≤ " : ""}${count(one.count)}`),
    );
  };
  show(
    card,
    h("header", {}, h("h3", {}, "Hot documents"), h("span", { class: "hint" }, "the most refused writes")),
    list.length === 0
      ? h("p", { class: "empty" }, "No write was refused yet.")
      : h(
          "table",
          { class: "list tight" },
          h(
            "thead",
            {},
            h(
              "tr",
              {},
              h("th", { scope: "col" }, "Document"),
              h("th", { scope: "col" }, h("span", { class: "unseen" }, "Share")),
              h("th", { scope: "col", class: "figure" }, "now"),
              h("th", { scope: "col", class: "figure" }, "conflicts"),
            ),
          ),
          h("tbody", {}, list.slice(0, 8).map(row)),
        ),
  );
}

const NAMES = { snapshot: "a snapshot", transaction: "a transaction", cursor: "a feed cursor" };

/** How far back old versions are held, and by what. */
function pinned(card, now) {
  const oldest = now.pins[0];
  const held = now.lastCommit - now.watermark;
  show(
    card,
    h(
      "header",
      {},
      h("h3", {}, "Watermark"),
      h("span", { class: "now" }, oldest ? duration(now.nowMs - oldest.sinceMs) : "0 s"),
    ),
    h(
      "p",
      {},
      oldest
        ? `Commit #${count(now.watermark)}, ${plural(held, "commit")} behind the newest, is held by ${NAMES[oldest.kind] ?? oldest.kind}${oldest.name ? ` “${visible(oldest.name)}”` : ""} since ${clockTime(oldest.sinceMs).slice(0, 8)}.`
        : "Nothing pins old versions: retention alone says what is kept.",
    ),
    now.pins.length > 0
      ? h(
          "table",
          { class: "list tight" },
          h(
            "thead",
            {},
            h(
              "tr",
              {},
              h("th", { scope: "col" }, "Pinned by"),
              h("th", { scope: "col", class: "figure" }, "at commit"),
              h("th", { scope: "col" }, "since"),
            ),
          ),
          h(
            "tbody",
            {},
            now.pins
              .slice(0, 8)
              .map((pin) =>
                h(
                  "tr",
                  {},
                  h("th", { scope: "row" }, pin.name ? visible(pin.name) : pin.kind),
                  h("td", { class: "figure" }, `#${count(pin.seq)}`),
                  h("td", {}, time(pin.sinceMs)),
                ),
              ),
          ),
        )
      : null,
    now.pins.length > 8 ? h("p", { class: "hint" }, `and ${plural(now.pins.length - 8, "other")}`) : null,
  );
}

/** What the containers take up: documents, and what is kept of the past. */
function space(card, list) {
  const measured = list.filter((one) => one.size).sort((a, b) => b.size.versionBytes - a.size.versionBytes);
  const most = Math.max(1, ...measured.map((one) => one.size.versionBytes));
  const row = ({ database, container, size }) =>
    h(
      "tr",
      {},
      h(
        "th",
        { scope: "row" },
        h("a", { href: link({ db: database, coll: container }) }, visible(container)),
        h("small", {}, visible(database)),
      ),
      h(
        "td",
        { class: "bar" },
        meter(size.documentBytes / most, "c1", (size.versionBytes - size.documentBytes) / most),
      ),
      h("td", { class: "figure" }, `${size.isExact ? "" : "≈ "}${brief(size.documents)}`),
      h("td", { class: "figure" }, bytes(size.documentBytes)),
      h("td", { class: "figure" }, bytes(Math.max(0, size.versionBytes - size.documentBytes))),
    );
  show(
    card,
    h(
      "header",
      {},
      h("h3", {}, "Space"),
      h("span", { class: "legend" }, h("i", { class: "c1" }), "documents", h("i", { class: "past" }), "older versions"),
    ),
    measured.length === 0
      ? h("p", { class: "empty" }, "There are no containers yet.")
      : h(
          "table",
          { class: "list tight" },
          h(
            "thead",
            {},
            h(
              "tr",
              {},
              h("th", { scope: "col" }, "Container"),
              h("th", { scope: "col" }, h("span", { class: "unseen" }, "Share")),
              h("th", { scope: "col", class: "figure" }, "documents"),
              h("th", { scope: "col", class: "figure" }, "bytes"),
              h("th", { scope: "col", class: "figure" }, "older"),
            ),
          ),
          h("tbody", {}, measured.slice(0, 12).map(row)),
        ),
    measured.length > 12 ? h("p", { class: "hint" }, `and ${plural(measured.length - 12, "smaller one")}`) : null,
  );
}

/** A bar of one or two parts, as shares of the whole width. */
function meter(share, colour, rest = 0) {
  const part = (value, name) => {
    const bar = h("i", { class: name });
    bar.style.width = `${(Math.max(0, Math.min(1, value)) * 100).toFixed(2)}%`;
    return bar;
  };
  return h(
    "span",
    { class: "meter", "aria-hidden": "true" },
    part(share, colour),
    rest > 0 ? part(rest, "past") : null,
  );
}
