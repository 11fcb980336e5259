// Compares: two texts line by line, and two JSON values member by member. Pure functions; how it looks is diffview's.

import { compact, same } from "./json.js";

/** Beyond so many differing lines two texts are simply told apart: nobody reads such a comparison line by line. */
const STEPS_MAX = 1200;

/**
 * The rows of a side-by-side comparison: {left, right, kind}, where a side is {number, text} or null and kind is "same",
 * "changed", "removed" or "added".
 */
export function rows(before, after) {
  const [a, b] = [before, after].map((text) => (text === null ? [] : text.split("\n")));
  // The comma after a member says only that another follows: a line is not changed by it.
  const [left, right] = [a, b].map((lines) => lines.map((line) => line.replace(/,$/, "")));
  let start = 0;
  while (start < a.length && start < b.length && left[start] === right[start]) start += 1;
  let end = 0;
  while (end < a.length - start && end < b.length - start && left[a.length - 1 - end] === right[b.length - 1 - end])
    end += 1;

  const out = [];
  const equal = (i, j) =>
    out.push({ kind: "same", left: { number: i + 1, text: a[i] }, right: { number: j + 1, text: b[j] } });
  for (let i = 0; i < start; i += 1) equal(i, i);
  const edits = script(left.slice(start, a.length - end), right.slice(start, b.length - end));
  let [i, j] = [start, start];
  for (let at = 0; at < edits.length;) {
    if (edits[at] === "=") {
      equal(i, j);
      i += 1;
      j += 1;
      at += 1;
      continue;
    }
    // A run of removals and additions: line them up beside each other.
    const [lefts, rights] = [[], []];
    for (; at < edits.length && edits[at] !== "="; at += 1) {
      if (edits[at] === "-") lefts.push({ number: i + 1, text: a[i++] });
      else rights.push({ number: j + 1, text: b[j++] });
    }
    for (let pair = 0; pair < Math.max(lefts.length, rights.length); pair += 1) {
      const [left, right] = [lefts[pair] ?? null, rights[pair] ?? null];
      out.push({ kind: left && right ? "changed" : left ? "removed" : "added", left, right });
    }
  }
  for (let rest = 0; rest < end; rest += 1) equal(a.length - end + rest, b.length - end + rest);
  return out;
}

/** The shortest way from one list of lines to the other (Myers 1986): "=" keep, "-" drop one of a, "+" take one of b. */
function script(a, b) {
  // How far along `a` each diagonal k got, at [k + steps + 1], after so many steps; kept of every step for the way back.
  const trace = [new Int32Array(3)];
  for (let steps = 0; steps <= STEPS_MAX; steps += 1) {
    const [before, furthest] = [trace[steps], new Int32Array(2 * steps + 5)];
    for (let k = -steps; k <= steps; k += 2) {
      let x = isDown(before, steps, k) ? before[k + 1 + steps + 1] : before[k - 1 + steps + 1] + 1;
      let y = x - k;
      while (x < a.length && y < b.length && a[x] === b[y]) {
        x += 1;
        y += 1;
      }
      furthest[k + steps + 2] = x;
      if (x >= a.length && y >= b.length) return backwards(trace, steps, a.length, b.length);
    }
    trace.push(furthest);
  }
  return [...a.map(() => "-"), ...b.map(() => "+")];
}

/** Whether the diagonal `k` is best reached by taking a line of b. */
function isDown(before, steps, k) {
  return k === -steps || (k !== steps && before[k - 1 + steps + 1] < before[k + 1 + steps + 1]);
}

function backwards(trace, most, x, y) {
  const edits = [];
  for (let steps = most; steps >= 0 && (x > 0 || y > 0); steps -= 1) {
    const before = trace[steps];
    const k = x - y;
    const down = isDown(before, steps, k);
    const fromX = steps === 0 ? 0 : before[(down ? k + 1 : k - 1) + steps + 1];
    const fromY = steps === 0 ? 0 : fromX - (down ? k + 1 : k - 1);
    while (x > fromX && y > fromY && x > 0 && y > 0) {
      edits.push("=");
      x -= 1;
      y -= 1;
    }
    if (steps > 0) edits.push(down ? "+" : "-");
    [x, y] = [fromX, fromY];
  }
  return edits.reverse();
}

/** Where two lines differ: the length of what they begin with and of what they end with alike, in whole words. */
export function within(left, right) {
  let head = 0;
  while (head < left.length && head < right.length && left[head] === right[head]) head += 1;
  let tail = 0;
  while (tail < left.length - head && tail < right.length - head && left.at(-1 - tail) === right.at(-1 - tail))
    tail += 1;
  const isWord = (char) => char !== undefined && /[\p{L}\p{N}_.-]/u.test(char);
  while (head > 0 && isWord(left[head - 1]) && (isWord(left[head]) || isWord(right[head]))) head -= 1;
  while (tail > 0 && isWord(left.at(-tail)) && (isWord(left.at(-tail - 1)) || isWord(right.at(-tail - 1)))) tail -= 1;
  return { head, tail };
}

/**
 * What changed from one value to another, by path: [{path, kind: "added" | "removed" | "changed", before, after}].
 * Objects are looked into; a list is one value.
 */
export function changes(before, after, path = []) {
  if (same(before, after)) return [];
  if (!before) return [{ path, kind: "added", before: undefined, after }];
  if (!after) return [{ path, kind: "removed", before, after: undefined }];
  if (before.kind !== "object" || after.kind !== "object") return [{ path, kind: "changed", before, after }];
  const [old, now] = [new Map(before.members), new Map(after.members)];
  const names = [...old.keys(), ...[...now.keys()].filter((name) => !old.has(name))];
  return names.flatMap((name) => changes(old.get(name), now.get(name), [...path, name]));
}

/** A path as people write it: cart.items["a b"]. */
export function pathText(path) {
  if (path.length === 0) return "the whole document";
  return path
    .map((name, at) => (/^[A-Za-z_$][\w$]*$/.test(name) ? (at ? "." : "") + name : `[${JSON.stringify(name)}]`))
    .join("");
}

/** A value in few characters. */
export function brief(value, most = 40) {
  if (value === undefined) return "nothing";
  const text = compact(value);
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}
