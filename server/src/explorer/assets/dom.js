// Builds elements. All text goes in as text nodes: what a document holds can never become markup, because nothing here
// parses any. Owns the small helpers that every view uses to write numbers, times and sizes.

const SVG = "http://www.w3.org/2000/svg";

/** An element: `h("p", {class: "note"}, "text", child)`. Props that begin with "on" are listeners, `data` and `aria` maps. */
export function h(tag, props, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** The same for a part of a picture. */
export function svg(tag, props, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2).toLowerCase(), value);
    else if (name === "data") for (const [key, text] of Object.entries(value)) element.dataset[key] = text;
    else if (name === "aria")
      for (const [key, text] of Object.entries(value)) element.setAttribute(`aria-${key}`, text);
    else if (name === "value" || name === "checked" || name === "disabled" || name === "selected")
      element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(
    ...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false),
  );
  return element;
}

/** Replaces what an element holds. */
export function show(element, ...children) {
  element.replaceChildren(
    ...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false),
  );
}

let said = 0;
/** Says something to those who listen to the page instead of looking at it. */
export function announce(text) {
  const live = document.getElementById("live");
  // The same words twice are heard twice only if they differ.
  live.textContent = text + (said++ % 2 ? "\u00a0" : "");
}

const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 });
const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "long" });
const absolute = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });
const clock = new Intl.DateTimeFormat("en-GB", {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  fractionalSecondDigits: 3,
});

export const count = (number) => whole.format(number);
export const brief = (number) =>
  number < 10 && number % 1 ? number.toFixed(1) : number < 10_000 ? whole.format(number) : short.format(number);
export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

export function bytes(number) {
  if (number < 1024) return `${count(number)} B`;
  const units = ["KiB", "MiB", "GiB", "TiB"];
  let at = -1;
  do {
    number /= 1024;
    at += 1;
  } while (number >= 1024 && at < units.length - 1);
  return `${number < 10 ? number.toFixed(1) : whole.format(number)} ${units[at]}`;
}

export function duration(ms) {
  if (ms === 0) return "0 ms";
  if (ms < 1) return `${whole.format(ms * 1000)} µs`;
  if (ms < 1000) return `${ms < 10 ? ms.toFixed(1) : whole.format(ms)} ms`;
  const seconds = ms / 1000;
  if (seconds < 90) return `${seconds < 10 ? seconds.toFixed(1) : whole.format(seconds)} s`;
  if (seconds < 5400) return `${whole.format(seconds / 60)} min`;
  if (seconds < 129_600) return `${whole.format(seconds / 3600)} h`;
  return `${whole.format(seconds / 86_400)} days`;
}

export function ago(ms, now = Date.now()) {
  const seconds = Math.round((ms - now) / 1000);
  if (seconds > -2) return "just now";
  if (seconds > -60) return relative.format(seconds, "second");
  if (seconds > -3600) return relative.format(Math.round(seconds / 60), "minute");
  if (seconds > -86_400) return relative.format(Math.round(seconds / 3600), "hour");
  return relative.format(Math.round(seconds / 86_400), "day");
}

/** A time: how long ago it was, and when exactly for who points at it. */
export function time(ms) {
  return h("time", { datetime: new Date(ms).toISOString(), title: absolute.format(ms) }, ago(ms));
}
export const clockTime = (ms) => clock.format(ms);
export const fullTime = (ms) => absolute.format(ms);

/** Text in which nothing is invisible or changes the direction of what follows: such characters are shown by their number. */
export function visible(text) {
  return text.replace(HIDDEN, (char) => `‹U+${char.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}›`);
}
const HIDDEN =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\ufeff]/gu;

/** A short form of an etag: its last digits, which is where etags of one document differ. */
export function etagMark(etag) {
  const bare = etag.replaceAll('"', "");
  return h("code", { class: "etag", title: `etag ${bare}` }, `…${bare.slice(-6)}`);
}

/** What went wrong, where it was to be shown. */
export function failure(error, what) {
  return h("div", { class: "notice bad", role: "alert" }, h("strong", {}, what), h("p", {}, visible(error.message)));
}

/** Whether a person is typing somewhere: single keys mean letters then. */
export function isTyping(event) {
  return event.target.closest?.("input, textarea, select, [contenteditable]") !== null;
}
