// A storm of conditional writes through the official JavaScript SDK: many clients read documents and replace them if
// nobody else has, until standard input ends. The server is killed and started again meanwhile.
//
// usage: node storm.mjs ENDPOINT KEY CLIENTS DOCUMENTS
//
// Prints `ready` once every client has connected, and then a line of JSON for every write it tried: what it had read,
// what it wrote, and whether that was acknowledged, refused, or is unknown. It judges nothing. The Python, Rust and Go
// programs beside it do the same.

import { setTimeout as pause } from "node:timers/promises";
import { CosmosClient } from "@azure/cosmos";

const [endpoint, key, clients, documents] = process.argv.slice(2);

let over = false;
process.stdin.on("end", () => (over = true)).resume();

/** Reads and replaces documents, one after another, for as long as the storm lasts. */
async function storm(client, writer) {
  const container = client.database("storm").container("documents");
  for (let number = 1; !over; number += 1) {
    const id = `d${Math.floor(Math.random() * Number(documents))}`;
    const item = container.item(id, id);
    const asked = Date.now();
    let read;
    try {
      const { resource, etag } = await item.read();
      read = { etag, count: resource.count, marker: resource.marker };
    } catch {
      // The server is away. A read promises nothing, so there is nothing to tell.
      await pause(20);
      continue;
    }
    const marker = `${writer}-${number}`;
    const attempt = { writer, document: id, asked, read, marker, outcome: "unknown", began: Date.now() };
    try {
      const body = { id, pk: id, count: read.count + 1, marker, previous: read.marker };
      const { etag } = await item.replace(body, { accessCondition: { type: "IfMatch", condition: read.etag } });
      Object.assign(attempt, { outcome: "acknowledged", etag });
    } catch (error) {
      if (error.code === 412) attempt.outcome = "refused";
      else if (typeof error.code === "number") attempt.status = error.code;
    }
    attempt.ended = Date.now();
    process.stdout.write(`${JSON.stringify(attempt)}\n`);
    if (attempt.outcome === "unknown") await pause(20);
  }
}

const connected = Array.from({ length: Number(clients) }, () => new CosmosClient({ endpoint, key }));
await Promise.all(connected.map((client) => client.getDatabaseAccount()));
process.stdout.write("ready\n");
await Promise.all(connected.map((client, number) => storm(client, `javascript-${number}`)));
connected.forEach((client) => client.dispose());
