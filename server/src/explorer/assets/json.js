// JSON that keeps what a document says: numbers with all their digits, members in their order, a name given twice.
// JavaScript's own parser would turn 12345678901234567890 into another number, and an editor built on it would save that.
//
// A value is {kind: "object", members: [[name, value], ..]}, {kind: "array", items: [..]}, {kind: "string", text},
// {kind: "number", raw} or {kind: "word", raw} for true, false and null.

const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const PLAIN = /[^"\\\u0000-\u001f]*/y;
const SPACE = /[ \t\r\n]*/y;
const ESCAPES = { '"': '"', "\\": "\\", "/": "/", b: "\b", f: "\f", n: "\n", r: "\r", t: "\t" };

/** Why a text is no JSON, and where: the line and the column, both from 1. */
export class JsonError extends Error {
  constructor(what, text, at) {
    const before = text.slice(0, at).split("\n");
    const [line, column] = [before.length, before.at(-1).length + 1];
    super(`Line ${line}, column ${column}: ${what}.`);
    Object.assign(this, { at, line, column });
  }
}

export function parse(text) {
  let at = 0;
  const fail = (what, where = at) => {
    throw new JsonError(what, text, where);
  };
  const take = (pattern) => {
    pattern.lastIndex = at;
    const found = pattern.exec(text);
    if (found) at = pattern.lastIndex;
    return found?.[0];
  };
  const skip = () => take(SPACE);
  const found = () => (at < text.length ? JSON.stringify(text[at]) : "the end");

  const string = () => {
    const start = at;
    at += 1;
    let out = "";
    for (;;) {
      out += take(PLAIN);
      const char = text[at];
      if (char === undefined) fail("this text has no closing quote", start);
      if (char === '"') break;
      if (char !== "\\") fail("a line break or control character in a text is written as an escape, such as \\n");
      const escape = text[at + 1];
      if (escape === "u") {
        const hex = text.slice(at + 2, at + 6);
        if (!/^[0-9a-fA-F]{4}$/.test(hex)) fail("\\u is followed by four hexadecimal digits");
        out += String.fromCharCode(parseInt(hex, 16));
        at += 6;
      } else {
        if (!(escape in ESCAPES)) fail(`there is no escape \\${escape ?? ""}`);
        out += ESCAPES[escape];
        at += 2;
      }
    }
    at += 1;
    return out;
  };

  const value = (depth) => {
    if (depth > 200) fail("the nesting is too deep");
    skip();
    const char = text[at];
    if (char === '"') return { kind: "string", text: string() };
    if (char === "{") {
      at += 1;
      const members = [];
      skip();
      if (text[at] === "}") {
        at += 1;
        return { kind: "object", members };
      }
      for (;;) {
        skip();
        if (text[at] !== '"') fail(`a member's name in quotes was expected, not ${found()}`);
        const name = string();
        skip();
        if (text[at] !== ":") fail(`a colon was expected after the name ${JSON.stringify(name)}, not ${found()}`);
        at += 1;
        members.push([name, value(depth + 1)]);
        skip();
        if (text[at] === ",") at += 1;
        else if (text[at] === "}") break;
        else fail(`a comma or } was expected, not ${found()}`);
      }
      at += 1;
      return { kind: "object", members };
    }
    if (char === "[") {
      at += 1;
      const items = [];
      skip();
      if (text[at] === "]") {
        at += 1;
        return { kind: "array", items };
      }
      for (;;) {
        items.push(value(depth + 1));
        skip();
        if (text[at] === ",") at += 1;
        else if (text[at] === "]") break;
        else fail(`a comma or ] was expected, not ${found()}`);
      }
      at += 1;
      return { kind: "array", items };
    }
    for (const word of ["true", "false", "null"]) {
      if (text.startsWith(word, at)) {
        at += word.length;
        return { kind: "word", raw: word };
      }
    }
    const number = take(NUMBER);
    if (number) return { kind: "number", raw: number };
    return fail(`a value was expected, not ${found()}`);
  };

  const whole = value(0);
  skip();
  if (at < text.length) fail(`the text goes on after its end, with ${found()}`);
  return whole;
}

/** On one line. */
export function compact(value) {
  switch (value.kind) {
    case "object":
      return `{${value.members.map(([name, member]) => `${JSON.stringify(name)}:${compact(member)}`).join(",")}}`;
    case "array":
      return `[${value.items.map(compact).join(",")}]`;
    case "string":
      return JSON.stringify(value.text);
    default:
      return value.raw;
  }
}

/** For people: two spaces for each level, short lists of plain values on one line. */
export function pretty(value, indent = "") {
  const inner = `${indent}  `;
  if (value.kind === "object" && value.members.length > 0) {
    const lines = value.members.map(([name, member]) => `${inner}${JSON.stringify(name)}: ${pretty(member, inner)}`);
    return `{\n${lines.join(",\n")}\n${indent}}`;
  }
  if (value.kind === "array" && value.items.length > 0) {
    const isPlain = value.items.every((item) => item.kind !== "object" && item.kind !== "array");
    const line = isPlain ? `[${value.items.map(compact).join(", ")}]` : "";
    if (isPlain && line.length <= 72) return line;
    return `[\n${value.items.map((item) => inner + pretty(item, inner)).join(",\n")}\n${indent}]`;
  }
  return compact(value);
}

/** A member of an object by its name, the last one if there are several; undefined without one. */
export function member(value, name) {
  return value?.kind === "object" ? value.members.findLast(([known]) => known === name)?.[1] : undefined;
}

/** Whether two values say the same; the order of members says nothing, the spelling of a number does. */
export function same(a, b) {
  if (a === b) return true;
  if (!a || !b || a.kind !== b.kind) return false;
  switch (a.kind) {
    case "object": {
      if (a.members.length !== b.members.length) return false;
      // In one order is the rule, and the only way to compare a name that is given twice.
      if (a.members.every(([name, value], at) => name === b.members[at][0] && same(value, b.members[at][1])))
        return true;
      const of = new Map(b.members);
      return (
        of.size === b.members.length && a.members.every(([name, value]) => of.has(name) && same(value, of.get(name)))
      );
    }
    case "array":
      return a.items.length === b.items.length && a.items.every((item, at) => same(item, b.items[at]));
    case "string":
      return a.text === b.text;
    default:
      return a.raw === b.raw;
  }
}

/** What the server adds to every item. */
export const SYSTEM = new Set(["_rid", "_self", "_etag", "_ts", "_attachments"]);

/** The item without what the server adds. */
export function own(item) {
  return item.kind === "object"
    ? { kind: "object", members: item.members.filter(([name]) => !SYSTEM.has(name)) }
    : item;
}

/** As JavaScript's own values, for what the server itself writes. */
export const plain = (value) => JSON.parse(compact(value));
