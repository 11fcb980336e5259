// What the official JavaScript SDK is answered, operation by condition: the cells of CONFORMANCE.md in its column.
//
// usage: node conformance.mjs ENDPOINT
//
// Prints one line a cell: operation, target, condition and status, with tabs between them.

import { randomUUID } from "node:crypto";
import { CosmosClient } from "@azure/cosmos";

const key = "C2y6yDjf5/R+ob0N8A7Cgv30VRDJIWEHLM+4QDU5DE2nQ9nDuVTqobD4b8mGGyPMbIZnqyMsEcaGQy67XIw/Jw==";
const client = new CosmosClient({ endpoint: process.argv[2], key });
const { database } = await client.databases.createIfNotExists({ id: "conformance" });
const { container } = await database.containers.createIfNotExists({ id: "javascript", partitionKey: "/pk" });

/** The status of a call, whether the SDK returned it or threw it. */
async function statusOf(call) {
  try {
    const response = await call;
    return response.statusCode ?? response.code;
  } catch (error) {
    return error.code;
  }
}

/** The status of the one operation in a batch. */
async function batched(operation) {
  const { result, code } = await container.items.batch([operation], "p");
  return result?.[0]?.statusCode ?? code;
}

const body = (id, n) => ({ id, pk: "p", n });
const operations = {
  read: (id, options) => statusOf(container.item(id, "p").read(options)),
  create: (id, options) => statusOf(container.items.create(body(id, 9), options)),
  replace: (id, options) => statusOf(container.item(id, "p").replace(body(id, 9), options)),
  upsert: (id, options) => statusOf(container.items.upsert(body(id, 9), options)),
  patch: (id, options) => statusOf(container.item(id, "p").patch([{ op: "incr", path: "/n", value: 1 }], options)),
  delete: (id, options) => statusOf(container.item(id, "p").delete(options)),
  "batch replace": (id, { ifMatch }) =>
    batched({ operationType: "Replace", id, resourceBody: body(id, 9), ...(ifMatch && { ifMatch }) }),
  "batch delete": (id, { ifMatch }) => batched({ operationType: "Delete", id, ...(ifMatch && { ifMatch }) }),
};

for (const [operation, run] of Object.entries(operations)) {
  for (const target of ["present", "absent"]) {
    for (const condition of [
      "none",
      "If-Match: current",
      "If-Match: stale",
      "If-Match: *",
      "If-None-Match: current",
      "If-None-Match: stale",
      "If-None-Match: *",
    ]) {
      const [header, which] = condition.split(": ");
      if (target === "absent" && which === "current") continue;
      if (operation.startsWith("batch") && header === "If-None-Match") continue;
      const id = randomUUID();
      const stale = (await container.items.create(body(id, 1))).etag;
      const current = (await container.item(id, "p").replace(body(id, 2))).etag;
      if (target === "absent") await container.item(id, "p").delete();
      const etag = { current, stale, "*": "*" }[which];
      const type = header === "If-Match" ? "IfMatch" : "IfNoneMatch";
      const options = etag === undefined ? {} : { accessCondition: { type, condition: etag } };
      if (type === "IfMatch") options.ifMatch = etag;
      console.log([operation, target, condition, await run(id, options)].join("\t"));
    }
  }
}
