// Talks to the server, in its Cosmos DB dialect and the few answers of the explorer's own.
//
// Owns the key, for as long as the page is open and no longer: WebCrypto holds it in a form that cannot be read back, and
// it signs every request. No cookie, no storage: what another page could send in our name would not be signed.

import { compact, member, parse } from "./json.js";

/** The key of every emulator of the service. Everybody knows it, and the server takes it on loopback only. */
const KNOWN_KEY = "C2y6yDjf5/R+ob0N8A7Cgv30VRDJIWEHLM+4QDU5DE2nQ9nDuVTqobD4b8mGGyPMbIZnqyMsEcaGQy67XIw/Jw==";
const PAGE = 100;

let key = null;
const text = new TextEncoder();

/** An answer that is a refusal, in the server's own words. */
export class Refusal extends Error {
  constructor(status, code, message, body, etag) {
    super(message);
    Object.assign(this, { status, code, body, etag });
  }
}

/** Whether this page may sign: browsers give cryptography to pages from loopback or over TLS only. */
export const canSign = () => globalThis.crypto?.subtle !== undefined;
export const hasKey = () => key !== null;
export const forgetKey = () => (key = null);

/** Takes a key if the server does; without one tries the key that everybody knows. Says whether it was taken. */
export async function unlock(base64 = KNOWN_KEY) {
  let raw;
  try {
    raw = Uint8Array.from(atob(base64.trim()), (char) => char.charCodeAt(0));
  } catch {
    throw new Error("This is not base64. The key is the text that the server was started with.");
  }
  if (raw.length === 0) throw new Error("The key is empty.");
  key = await crypto.subtle.importKey("raw", raw, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  raw.fill(0);
  try {
    await stats();
    return true;
  } catch (error) {
    key = null;
    if (error.status === 401) return false;
    throw error;
  }
}

async function signature(method, type, link, date) {
  const signed = `${method.toLowerCase()}\n${type}\n${link}\n${date.toLowerCase()}\n\n`;
  const mac = new Uint8Array(await crypto.subtle.sign("HMAC", key, text.encode(signed)));
  return encodeURIComponent(`type=master&ver=1.0&sig=${btoa(String.fromCharCode(...mac))}`);
}

/**
 * Sends one request. `segments` are the path's parts, not encoded; the signature covers the last type among them and the
 * link of the resource, or of its parent where the path ends with a type.
 */
async function send(method, segments, { headers = {}, body, signal } = {}) {
  const isList = segments.length % 2 === 1;
  // The signed text has the type in lower case, by the letters of ASCII.
  const type = ((isList ? segments.at(-1) : segments.at(-2)) ?? "").replace(/[A-Z]/g, (letter) => letter.toLowerCase());
  const link = (isList ? segments.slice(0, -1) : segments).join("/");
  const date = new Date().toUTCString();
  const authorization = await signature(method, type, link, date);
  let answer;
  try {
    answer = await fetch(`/${segments.map(encodeURIComponent).join("/")}`, {
      method,
      headers: { ...headers, authorization, "x-ms-date": date },
      body,
      signal,
      cache: "no-store",
      credentials: "omit",
      redirect: "error",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, "Unreachable", "The server does not answer. Is it still running?", null, null);
  }
  const content = answer.status === 304 || answer.status === 204 ? "" : await answer.text();
  const etag = answer.headers.get("etag");
  if (answer.status >= 400) {
    let told;
    try {
      told = parse(content);
    } catch {
      told = null;
    }
    const message = member(told, "message")?.text ?? `The server answered ${answer.status}.`;
    throw new Refusal(answer.status, member(told, "code")?.text, message, told, etag);
  }
  return { status: answer.status, headers: answer.headers, etag, body: content === "" ? null : parse(content) };
}

/** A value as a header can carry it. */
const ascii = (json) =>
  json.replace(/[\u007f-\uffff]/g, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`);
const forKey = (pk) => ({ "x-ms-documentdb-partitionkey": ascii(pk) });
const docs = (place, ...rest) => ["dbs", place.db, "colls", place.coll, "docs", ...rest];

const items = (answer, name) => member(answer.body, name)?.items ?? [];
const page = (answer, name) => ({
  items: items(answer, name),
  next: answer.headers.get("x-ms-continuation"),
  charge: answer.headers.get("x-ms-request-charge"),
  headers: answer.headers,
});

async function all(segments, name) {
  const out = [];
  let token = null;
  do {
    const headers = { "x-ms-max-item-count": "1000", ...(token && { "x-ms-continuation": token }) };
    const answer = page(await send("GET", segments, { headers }), name);
    out.push(...answer.items.map((item) => JSON.parse(compact(item))));
    token = answer.next;
  } while (token);
  return out;
}

export const databases = () => all(["dbs"], "Databases");
export const containers = (db) => all(["dbs", db, "colls"], "DocumentCollections");
export const container = async (place) =>
  JSON.parse(compact((await send("GET", ["dbs", place.db, "colls", place.coll])).body));
export const stats = async () => JSON.parse(compact((await send("GET", ["_explorer", "api", "stats"])).body));
export const space = async () =>
  JSON.parse(compact((await send("GET", ["_explorer", "api", "space"])).body)).containers;
export const spaceOf = async (place) =>
  JSON.parse(compact((await send("GET", ["_explorer", "api", "space", place.db, place.coll])).body));

/** A page of a container's items, in key order. */
export async function list(place, token, signal) {
  const headers = { "x-ms-max-item-count": String(PAGE), ...(token && { "x-ms-continuation": token }) };
  return page(await send("GET", docs(place), { headers, signal }), "Documents");
}

/** A page of a query's results. */
export async function query(place, sql, parameters, token, signal) {
  const headers = {
    "content-type": "application/query+json",
    "x-ms-documentdb-populatequerymetrics": "true",
    "x-ms-cosmos-populateindexmetrics": "true",
    "x-ms-max-item-count": String(PAGE),
    ...(token && { "x-ms-continuation": token }),
  };
  const body = JSON.stringify({ query: sql, parameters });
  const segments = ["_explorer", "api", "query", place.db, place.coll];
  return page(await send("POST", segments, { headers, body, signal }), "Documents");
}

/** An item, as it is or as it was: `asOf` is an etag with its quotes. */
export async function read(place, pk, id, asOf) {
  const headers = { ...forKey(pk), ...(asOf && { "x-etagdb-as-of": asOf }) };
  const answer = await send("GET", docs(place, id), { headers });
  return { item: answer.body, etag: answer.etag };
}

/** The versions of an item that are kept, newest first, as [{etag, seq, timeMs, bytes, deleted, previous}]. */
export async function versions(place, pk, id, token) {
  const headers = {
    ...forKey(pk),
    "x-etagdb-versions": "true",
    "x-ms-max-item-count": String(PAGE),
    ...(token && { "x-ms-continuation": token }),
  };
  const answer = page(await send("GET", docs(place, id), { headers }), "Versions");
  const entries = answer.items.map((entry) => JSON.parse(compact(entry)));
  return {
    next: answer.next,
    list: entries.map((entry) => ({
      etag: entry._etag,
      seq: entry._lsn,
      timeMs: entry.timeMs,
      bytes: entry.bodyBytes,
      deleted: entry.deleted,
      previous: entry.previousLsn,
    })),
  };
}

export const create = (place, pk, body) => send("POST", docs(place), { headers: forKey(pk), body });

/** Replaces an item if it still is the version with this etag. A refusal shows what is there. */
export function replace(place, pk, id, etag, body) {
  const headers = { ...forKey(pk), "if-match": etag, prefer: "return=representation" };
  return send("PUT", docs(place, id), { headers, body });
}

export function remove(place, pk, id, etag) {
  return send("DELETE", docs(place, id), { headers: { ...forKey(pk), "if-match": etag } });
}

/** What has happened after a position, "*" for from now on: waits for something, some seconds at most. */
export async function changes(place, position, signal, seconds = 25) {
  const headers = {
    "a-im": "Full-Fidelity Feed",
    "x-ms-cosmos-changefeed-wire-format-version": "2021-09-15",
    "if-none-match": position,
    "x-ms-max-item-count": "200",
    prefer: `wait=${seconds}`,
  };
  const answer = await send("GET", docs(place), { headers, signal });
  return { position: answer.etag, entries: answer.body ? items(answer, "Documents") : [] };
}

/** The partition key of an item as its header: a JSON list, in which {} is a property that is not there. */
export function keyOf(item, paths) {
  const parts = paths.map((path) => {
    const value = pathNames(path).reduce((found, name) => member(found, name), item);
    return value === undefined || value.kind === "object" || value.kind === "array" ? "{}" : compact(value);
  });
  return `[${parts.join(",")}]`;
}

/** A partition key as people read it: a text without its quotes, several parts with commas between them. */
export function keyText(pk) {
  const parts = parse(pk).items.map((part) =>
    part.kind === "string" ? part.text : part.kind === "object" ? "(none)" : compact(part),
  );
  return parts.join(", ");
}

/** The names that a path such as /address/"zip code" passes through. */
export function pathNames(path) {
  const found = [...path.matchAll(/\/(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|([^/]*))/g)];
  return found.map(([, double, single, bare]) => (double ?? single ?? bare).replace(/\\(.)/g, "$1"));
}
