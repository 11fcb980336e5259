// The official JavaScript SDK, unmodified, against a running server: what it must be answered.
//
// usage: node sdk.mjs ENDPOINT [KEY]      (or the environment: COSMOS_ENDPOINT, COSMOS_KEY)
//
// Every check makes its own items, so that one failure explains one thing. The program prints one line a check and a
// summary, and exits 1 unless every check passed. The Python and Rust programs beside it make the same checks under the
// same names, except where an SDK does not offer the operation.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import {
  ChangeFeedMode,
  ChangeFeedStartFrom,
  CosmosClient,
  PartitionKeyBuilder,
  PartitionKeyDefinitionVersion,
  PartitionKeyKind,
} from "@azure/cosmos";

const EMULATOR_KEY = "C2y6yDjf5/R+ob0N8A7Cgv30VRDJIWEHLM+4QDU5DE2nQ9nDuVTqobD4b8mGGyPMbIZnqyMsEcaGQy67XIw/Jw==";
const endpoint = process.argv[2] ?? process.env.COSMOS_ENDPOINT;
const key = process.argv[3] ?? process.env.COSMOS_KEY ?? EMULATOR_KEY;
if (!endpoint) {
  console.error("usage: node sdk.mjs ENDPOINT [KEY]");
  process.exit(2);
}

const ifMatch = (etag) => ({ accessCondition: { type: "IfMatch", condition: etag } });
const ifNoneMatch = (etag) => ({ accessCondition: { type: "IfNoneMatch", condition: etag } });

/** Resolves to the status of a call, whether the SDK returned it or threw it. Anything without a status is no answer. */
async function statusOf(call) {
  try {
    const response = await call;
    return response.statusCode ?? response.code;
  } catch (error) {
    if (typeof error.code !== "number") throw error;
    return error.code;
  }
}

async function assertStatus(expected, call, what) {
  assert.equal(await statusOf(call), expected, what);
}

/** The members of an item that belong to its user: without the ones whose names begin with an underscore. */
function userPart(item) {
  return Object.fromEntries(Object.entries(item).filter(([name]) => !name.startsWith("_")));
}

/** Asserts that the stored item is exactly `expected`, under exactly `etag`. */
async function assertStored(item, expected, etag) {
  const { statusCode, resource, etag: header } = await item.read();
  assert.equal(statusCode, 200);
  assert.deepEqual(userPart(resource), expected);
  assert.equal(resource._etag, etag, "the etag of the stored item");
  assert.equal(header, etag, "the etag header of a read");
}

/** Creates an item and returns what the checks need of it. */
async function created(container, body) {
  const { statusCode, resource, item, etag } = await container.items.create(body);
  assert.equal(statusCode, 201);
  assert.deepEqual(userPart(resource), body);
  assert.equal(resource._etag, etag, "the etag in the body and in the header");
  assert.match(etag, /^"[^"]+"$/, "an etag carries its quotes");
  return { item, etag };
}

const document = (id, value = 1) => ({ id, pk: "p", value, tags: ["a", "b"], nested: { deep: [1, 2.5, null, true] } });

const checks = {
  async create_answers_201_and_an_etag({ container }) {
    const body = document("create");
    const { item, etag } = await created(container, body);
    await assertStored(item, body, etag);
  },

  async create_of_an_existing_item_is_409({ container }) {
    const body = document("exists");
    const { item, etag } = await created(container, body);
    await assertStatus(409, container.items.create(document("exists", 2)));
    await assertStored(item, body, etag);
  },

  async read_with_the_current_etag_is_304({ container }) {
    const { item, etag } = await created(container, document("not-modified"));
    const unchanged = await item.read(ifNoneMatch(etag));
    assert.equal(unchanged.statusCode, 304);
    assert.ok(!unchanged.resource, "a 304 carries no document");
    assert.equal(unchanged.headers.etag, etag, "a 304 names the current etag");
    const { etag: newer } = await item.replace(document("not-modified", 2));
    const changed = await item.read(ifNoneMatch(etag));
    assert.equal(changed.statusCode, 200);
    assert.equal(changed.resource.value, 2);
    assert.equal(changed.etag, newer);
  },

  async replace_with_the_current_etag_is_200({ container }) {
    const { item, etag } = await created(container, document("replace"));
    const { statusCode, resource, etag: newer } = await item.replace(document("replace", 2), ifMatch(etag));
    assert.equal(statusCode, 200);
    assert.equal(resource.value, 2);
    assert.notEqual(newer, etag, "a write changes the etag");
    await assertStored(item, document("replace", 2), newer);
  },

  async replace_with_a_stale_etag_is_412({ container }) {
    const { item, etag } = await created(container, document("replace-stale"));
    const { etag: newer } = await item.replace(document("replace-stale", 2), ifMatch(etag));
    await assertStatus(412, item.replace(document("replace-stale", 3), ifMatch(etag)));
    await assertStored(item, document("replace-stale", 2), newer);
    for (const nonsense of ["nonsense", randomUUID(), `"${randomUUID()}"`, newer.replaceAll('"', "")]) {
      await assertStatus(412, item.replace(document("replace-stale", 4), ifMatch(nonsense)), `If-Match: ${nonsense}`);
    }
    await assertStored(item, document("replace-stale", 2), newer);
  },

  async a_write_of_the_same_body_changes_the_etag({ container }) {
    const body = document("same-body");
    const { item, etag } = await created(container, body);
    const { etag: second } = await item.replace(body);
    const { etag: third } = await container.items.upsert(body);
    assert.equal(new Set([etag, second, third]).size, 3);
    await assertStatus(412, item.replace(body, ifMatch(etag)));
    await assertStored(item, body, third);
  },

  async upsert_with_the_current_etag_is_200({ container }) {
    const { item, etag } = await created(container, document("upsert"));
    const { statusCode, etag: newer } = await container.items.upsert(document("upsert", 2), ifMatch(etag));
    assert.equal(statusCode, 200);
    assert.notEqual(newer, etag);
    await assertStored(item, document("upsert", 2), newer);
  },

  async upsert_with_a_stale_etag_is_412({ container }) {
    const { item, etag } = await created(container, document("upsert-stale"));
    const { etag: newer } = await item.replace(document("upsert-stale", 2));
    await assertStatus(412, container.items.upsert(document("upsert-stale", 3), ifMatch(etag)));
    await assertStored(item, document("upsert-stale", 2), newer);
  },

  async upsert_without_a_condition_is_last_write_wins({ container }) {
    const first = await container.items.upsert(document("upsert-any"));
    assert.equal(first.statusCode, 201, "an upsert that creates");
    const second = await container.items.upsert(document("upsert-any", 2));
    assert.equal(second.statusCode, 200, "an upsert that replaces");
    assert.notEqual(second.etag, first.etag);
    await assertStored(second.item, document("upsert-any", 2), second.etag);
  },

  async upsert_of_an_absent_item_ignores_the_etag({ container }) {
    const { statusCode, item, etag } = await container.items.upsert(document("upsert-absent"), ifMatch(`"${randomUUID()}"`));
    assert.equal(statusCode, 201);
    await assertStored(item, document("upsert-absent"), etag);
  },

  async delete_with_a_stale_etag_is_412_and_with_the_current_one_204({ container }) {
    const { item, etag } = await created(container, document("delete"));
    const { etag: newer } = await item.replace(document("delete", 2));
    await assertStatus(412, item.delete(ifMatch(etag)));
    await assertStored(item, document("delete", 2), newer);
    await assertStatus(204, item.delete(ifMatch(newer)));
    await assertStatus(404, item.read());
  },

  async a_patch_obeys_the_etag_and_its_condition({ container }) {
    const { item, etag } = await created(container, document("patch"));
    const operations = [{ op: "incr", path: "/value", value: 2 }, { op: "add", path: "/tags/-", value: "c" }];
    const { statusCode, resource, etag: newer } = await item.patch(operations, ifMatch(etag));
    assert.equal(statusCode, 200);
    assert.notEqual(newer, etag);
    const patched = { ...document("patch", 3), tags: ["a", "b", "c"] };
    assert.deepEqual(userPart(resource), patched);
    await assertStatus(412, item.patch(operations, ifMatch(etag)));
    await assertStatus(412, item.patch({ condition: 'FROM c WHERE c["value"] = 1', operations }));
    await assertStatus(400, item.patch([...operations, { op: "replace", path: "/absent", value: 1 }]));
    await assertStatus(404, container.item("missing", "p").patch(operations));
    await assertStored(item, patched, newer);
    await assertStatus(200, item.patch({ condition: 'FROM c WHERE c["value"] = 3', operations }));
  },

  async an_etag_does_not_outlive_its_document({ container }) {
    const body = document("recreate");
    const { item, etag } = await created(container, body);
    await assertStatus(204, item.delete());
    const { etag: newer } = await created(container, body);
    assert.notEqual(newer, etag, "a document created again has an etag of its own");
    await assertStatus(412, item.replace(document("recreate", 2), ifMatch(etag)));
    await assertStatus(412, item.delete(ifMatch(etag)));
    assert.equal((await item.read(ifNoneMatch(etag))).statusCode, 200);
    await assertStored(item, body, newer);
  },

  async missing_items_are_404_with_or_without_an_etag({ container }) {
    const missing = container.item("missing", "p");
    const condition = ifMatch(`"${randomUUID()}"`);
    await assertStatus(404, missing.read());
    await assertStatus(404, missing.replace(document("missing")));
    await assertStatus(404, missing.replace(document("missing"), condition));
    await assertStatus(404, missing.delete());
    await assertStatus(404, missing.delete(condition));
    await assertStatus(404, missing.read(), "none of it made the item");
  },

  async one_etag_admits_one_of_two_writers({ container, rival }) {
    let { item, etag } = await created(container, document("duel", 0));
    const other = rival.item("duel", "p");
    for (let round = 1; round <= 50; round += 1) {
      const statuses = await Promise.all([
        statusOf(item.replace(document("duel", round), ifMatch(etag))),
        statusOf(other.replace(document("duel", -round), ifMatch(etag))),
      ]);
      assert.deepEqual([...statuses].sort(), [200, 412], `round ${round}`);
      const { resource } = await item.read();
      assert.equal(resource.value, statuses[0] === 200 ? round : -round, `round ${round}: the winner's value is stored`);
      assert.notEqual(resource._etag, etag);
      etag = resource._etag;
    }
  },

  async racing_increments_lose_no_update({ container, rival }) {
    const { item } = await created(container, document("counter", 0));
    const etags = new Set();
    const tally = { 200: 0, 412: 0 };
    const increment = async (counter) => {
      for (let done = 0; done < 100; ) {
        const { resource, etag } = await counter.read();
        try {
          const answer = await counter.replace({ ...userPart(resource), value: resource.value + 1 }, ifMatch(etag));
          assert.equal(answer.statusCode, 200);
          etags.add(answer.etag);
          tally[200] += 1;
          done += 1;
        } catch (error) {
          if (error.code !== 412) throw error;
          tally[412] += 1;
        }
      }
    };
    await Promise.all([increment(item), increment(rival.item("counter", "p"))]);
    assert.equal(tally[200], 200);
    assert.equal(etags.size, 200, "every accepted write has an etag of its own");
    const { resource } = await item.read();
    assert.equal(resource.value, tally[200], `the counter after ${tally[200]} accepted and ${tally[412]} refused writes`);
  },

  async item_ids_may_hold_any_text({ container }) {
    // The SDK itself refuses `/`, `\` and `#`. A question mark is legal, and the SDK sends it as it is, so that what
    // looks like a query string is the end of the id.
    const ids = ["Zoë 東京 🚀", "two words", "100%", "a%20b", "%2F", "a+b&c=d;e,f", `quotes ' and "`, "~!@$^*()[]{}|<>:.", "who?what=1&why=2", "k".repeat(255)];
    for (const id of ids) {
      const { item, etag } = await created(container, document(id));
      assert.equal(item.id, id);
      await assertStored(item, document(id), etag);
      assert.equal((await item.read(ifNoneMatch(etag))).statusCode, 304, id);
      const { etag: newer } = await item.replace(document(id, 2), ifMatch(etag));
      await assertStatus(412, item.delete(ifMatch(etag)), id);
      await assertStatus(204, item.delete(ifMatch(newer)), id);
      await assertStatus(404, item.read(), id);
    }
  },

  async hierarchical_partition_keys({ database }) {
    const { container } = await database.containers.create({
      id: "hierarchical",
      partitionKey: {
        paths: ["/tenant", "/user"],
        version: PartitionKeyDefinitionVersion.V2,
        kind: PartitionKeyKind.MultiHash,
      },
    });
    const body = (tenant, user, value = 1) => ({ id: "same", tenant, user, value });
    const at = (...values) => container.item("same", values);
    const etags = [];
    for (const [tenant, user] of [["t1", "u1"], ["t1", "u2"], ["t2", "u1"]]) {
      etags.push((await created(container, body(tenant, user))).etag);
    }
    await assertStatus(409, container.items.create(body("t1", "u1")));
    const { etag: newer } = await at("t1", "u1").replace(body("t1", "u1", 2), ifMatch(etags[0]));
    await assertStatus(412, at("t1", "u1").replace(body("t1", "u1", 3), ifMatch(etags[0])));
    await assertStored(at("t1", "u1"), body("t1", "u1", 2), newer);
    await assertStored(at("t1", "u2"), body("t1", "u2"), etags[1]);
    await assertStored(at("t2", "u1"), body("t2", "u1"), etags[2]);
    const { resources } = await container.items.query("SELECT * FROM c", { partitionKey: ["t1", "u2"] }).fetchAll();
    assert.deepEqual(resources.map(userPart), [body("t1", "u2")]);
    await assertStatus(204, at("t1", "u2").delete(ifMatch(etags[1])));
    await assertStatus(404, at("t1", "u2").read());
    await assertStatus(200, at("t2", "u1").read());
  },

  async null_missing_and_text_partition_keys_differ({ container }) {
    const missing = new PartitionKeyBuilder().addNoneValue().build();
    const places = [
      { key: null, body: (value) => ({ id: "keyless", pk: null, value }) },
      { key: missing, body: (value) => ({ id: "keyless", value }) },
      { key: "null", body: (value) => ({ id: "keyless", pk: "null", value }) },
      { key: "", body: (value) => ({ id: "keyless", pk: "", value }) },
      { key: 0, body: (value) => ({ id: "keyless", pk: 0, value }) },
      { key: false, body: (value) => ({ id: "keyless", pk: false, value }) },
    ];
    const etags = [];
    for (const { body } of places) etags.push((await created(container, body(1))).etag);
    for (const [n, { key, body }] of places.entries()) {
      const item = container.item("keyless", key);
      await assertStored(item, body(1), etags[n]);
      const { etag } = await item.replace(body(n + 2), ifMatch(etags[n]));
      await assertStatus(412, item.delete(ifMatch(etags[n])));
      await assertStored(item, body(n + 2), etag);
      await assertStatus(204, item.delete(ifMatch(etag)));
      await assertStatus(404, item.read());
    }
  },

  async pages_hold_every_item_once({ container }) {
    const names = Array.from({ length: 25 }, (_, n) => `page-${String(n).padStart(2, "0")}`);
    for (const id of names) await created(container, { id, pk: "pages" });
    const options = { maxItemCount: 10, partitionKey: "pages" };
    const seen = [];
    let pages = 0;
    let continuationToken;
    do {
      // A fresh iterator for every page: only the continuation carries the position over.
      const page = await container.items.readAll({ ...options, continuationToken }).fetchNext();
      assert.ok(page.resources.length <= 10, `${page.resources.length} items in a page of 10`);
      seen.push(...page.resources.map((item) => item.id));
      continuationToken = page.continuationToken;
      pages += 1;
      assert.ok(pages <= 26, "the pages never end");
    } while (continuationToken);
    assert.ok(pages >= 3, `${pages} pages`);
    assert.deepEqual([...seen].sort(), names);
    const { resources } = await container.items.readAll({ maxItemCount: 10 }).fetchAll();
    assert.deepEqual(resources.map((item) => item.id).filter((id) => id.startsWith("page-")).sort(), names);
  },

  async queries_take_parameters({ container }) {
    const fruits = [["apple", 3], ["banana", 1], ["cherry, \"dark\"", 8], ["apple", 5]];
    for (const [n, [name, price]] of fruits.entries()) {
      await created(container, { id: `fruit-${n}`, pk: n % 2 ? "odd" : "even", name, price });
    }
    const query = (name, least) => ({
      query: "SELECT * FROM c WHERE c.name = @name AND c.price >= @least",
      parameters: [{ name: "@name", value: name }, { name: "@least", value: least }],
    });
    const run = async (spec, options) => (await container.items.query(spec, options).fetchAll()).resources;
    const prices = async (...args) => (await run(query(...args))).map((fruit) => fruit.price).sort();
    assert.deepEqual(await prices("apple", 0), [3, 5]);
    assert.deepEqual(await prices("apple", 4), [5]);
    assert.deepEqual(await prices("cherry, \"dark\"", 0), [8]);
    assert.deepEqual(await prices("apple' OR 1=1", 0), []);
    assert.deepEqual((await run(query("apple", 0), { partitionKey: "even" })).map((fruit) => fruit.price), [3]);
    await assertStatus(400, container.items.query("SELEKT nothing").fetchAll());
  },

  async the_change_feed_tells_each_changed_item_once({ database }) {
    const { container } = await database.containers.create({ id: "feed", partitionKey: { paths: ["/pk"] } });
    const body = (id, value) => ({ id, pk: `p-${id}`, value });
    const changes = async (changeFeedStartFrom) => {
      const feed = container.items.getChangeFeedIterator({ changeFeedStartFrom, maxItemCount: 2 });
      const seen = [];
      for (;;) {
        const page = await feed.readNext();
        if (page.statusCode === 304) return { seen, position: page.continuationToken };
        assert.ok(page.result.length <= 2, `${page.result.length} changes in a page of 2`);
        seen.push(...page.result.map(userPart));
        assert.ok(seen.length <= 20, "the feed never ends");
      }
    };
    for (const id of ["a", "b", "c", "d", "e"]) await created(container, body(id, 1));
    await container.item("a", "p-a").replace(body("a", 2));
    await container.item("c", "p-c").delete();
    const { seen, position } = await changes(ChangeFeedStartFrom.Beginning());
    assert.deepEqual(seen, [body("b", 1), body("d", 1), body("e", 1), body("a", 2)], "the latest versions, oldest change first");
    assert.deepEqual((await changes(ChangeFeedStartFrom.Continuation(position))).seen, [], "nothing has changed since");
    await created(container, body("f", 1));
    await container.item("b", "p-b").replace(body("b", 2));
    const later = await changes(ChangeFeedStartFrom.Continuation(position));
    assert.deepEqual(later.seen, [body("f", 1), body("b", 2)]);
  },

  async a_batch_is_applied_whole({ container }) {
    const body = (id, value = 1) => ({ id, pk: "batch", value });
    const replaced = await created(container, body("batch-replaced"));
    const deleted = await created(container, body("batch-deleted"));
    const { code, result } = await container.items.batch(
      [
        { operationType: "Create", resourceBody: body("batch-created") },
        { operationType: "Replace", id: "batch-replaced", resourceBody: body("batch-replaced", 2), ifMatch: replaced.etag },
        { operationType: "Upsert", resourceBody: body("batch-upserted") },
        { operationType: "Read", id: "batch-replaced" },
        { operationType: "Delete", id: "batch-deleted", ifMatch: deleted.etag },
      ],
      "batch",
    );
    assert.equal(code, 200);
    assert.deepEqual(result.map((answer) => answer.statusCode), [201, 200, 201, 200, 204]);
    assert.equal(result[3].resourceBody.value, 2, "a batch reads its own writes");
    await assertStored(container.item("batch-created", "batch"), body("batch-created"), result[0].eTag);
    await assertStored(replaced.item, body("batch-replaced", 2), result[1].eTag);
    await assertStored(container.item("batch-upserted", "batch"), body("batch-upserted"), result[2].eTag);
    await assertStatus(404, deleted.item.read());
  },

  async a_failed_batch_writes_nothing({ container }) {
    const body = (id, value = 1) => ({ id, pk: "batch", value });
    const kept = await created(container, body("batch-kept"));
    const { etag: current } = await kept.item.replace(body("batch-kept", 2));
    const failing = [
      [412, { operationType: "Replace", id: "batch-kept", resourceBody: body("batch-kept", 9), ifMatch: kept.etag }],
      [412, { operationType: "Upsert", resourceBody: body("batch-kept", 9), ifMatch: kept.etag }],
      [412, { operationType: "Delete", id: "batch-kept", ifMatch: kept.etag }],
      [409, { operationType: "Create", resourceBody: body("batch-kept", 9) }],
      [404, { operationType: "Replace", id: "batch-absent", resourceBody: body("batch-absent") }],
      [404, { operationType: "Read", id: "batch-absent" }],
      [404, { operationType: "Delete", id: "batch-absent" }],
    ];
    for (const [status, operation] of failing) {
      const { code, result } = await container.items.batch(
        [
          { operationType: "Create", resourceBody: body("batch-never") },
          operation,
          { operationType: "Upsert", resourceBody: body("batch-kept", 8) },
        ],
        "batch",
      );
      const what = `${operation.operationType} that must fail with ${status}`;
      assert.equal(code, 207, what);
      assert.deepEqual(result.map((answer) => answer.statusCode), [424, status, 424], what);
      await assertStatus(404, container.item("batch-never", "batch").read(), what);
      await assertStored(kept.item, body("batch-kept", 2), current);
    }
  },

  async bulk_operations_are_each_their_own({ database }) {
    // As many ranges as the throughput asks for: the SDK sorts the operations by them.
    const { container } = await database.containers.create({ id: "bulk", partitionKey: { paths: ["/pk"] }, throughput: 18000 });
    const body = (n, value) => ({ id: `b${n}`, pk: `p${n % 7}`, value });
    const numbers = Array.from({ length: 120 }, (_, n) => n);
    const run = async (operations) => {
      const results = await container.items.executeBulkOperations(operations);
      assert.equal(results.length, operations.length);
      return results.map((result) => result.response?.statusCode ?? result.error?.code);
    };
    const create = (n) => ({ operationType: "Create", partitionKey: body(n).pk, resourceBody: body(n, 1) });
    assert.deepEqual(new Set(await run(numbers.map(create))), new Set([201]));
    const { etag: current } = await container.item("b0", "p0").read();
    const statuses = await run([
      create(1),
      { operationType: "Upsert", partitionKey: "p2", resourceBody: body(2, 2) },
      { operationType: "Replace", partitionKey: "p0", id: "b0", resourceBody: body(0, 2), ifMatch: current },
      { operationType: "Replace", partitionKey: "p3", id: "b3", resourceBody: body(3, 9), ifMatch: current },
      { operationType: "Read", partitionKey: "p4", id: "b4" },
      { operationType: "Delete", partitionKey: "p5", id: "b5" },
      { operationType: "Delete", partitionKey: "p5", id: "missing" },
      { operationType: "Patch", partitionKey: "p6", id: "b6", resourceBody: { operations: [{ op: "incr", path: "/value", value: 4 }] } },
    ]);
    assert.deepEqual(statuses, [409, 200, 200, 412, 200, 204, 404, 200], "one that fails stops no other");
    const { resources } = await container.items.query('SELECT VALUE c["value"] FROM c WHERE c["value"] != 1').fetchAll();
    assert.deepEqual([...resources].sort(), [2, 2, 5]);
    const { resources: counts } = await container.items.query("SELECT VALUE COUNT(1) FROM c").fetchAll();
    assert.deepEqual(counts, [119]);
  },

  async all_versions_and_deletes_are_told({ database }) {
    const { container } = await database.containers.create({ id: "versions", partitionKey: { paths: ["/pk"] } });
    const options = { changeFeedMode: ChangeFeedMode.AllVersionsAndDeletes };
    const feed = container.items.getChangeFeedIterator({ ...options, changeFeedStartFrom: ChangeFeedStartFrom.Now() });
    const { statusCode, continuationToken } = await feed.readNext();
    assert.equal(statusCode, 304);
    const { item } = await created(container, { id: "a", pk: "p", value: 1 });
    await item.replace({ id: "a", pk: "p", value: 2 });
    await item.delete();
    const changeFeedStartFrom = ChangeFeedStartFrom.Continuation(continuationToken);
    const { result } = await container.items.getChangeFeedIterator({ ...options, changeFeedStartFrom }).readNext();
    assert.deepEqual(
      result.map((change) => [change.metadata.operationType, change.current?.value, change.previous?.value]),
      [["create", 1, undefined], ["replace", 2, 1], ["delete", undefined, 2]],
    );
  },

  async unique_keys_are_kept({ database }) {
    const uniqueKeyPolicy = { uniqueKeys: [{ paths: ["/email"] }] };
    const { container } = await database.containers.create({ id: "people", partitionKey: { paths: ["/pk"] }, uniqueKeyPolicy });
    const person = (id, email) => ({ id, pk: "p", email });
    const { item: first } = await created(container, person("a", "x"));
    await assertStatus(409, container.items.create(person("b", "x")));
    const { item: second } = await created(container, person("b", "y"));
    await assertStatus(409, second.replace(person("b", "x")));
    await assertStatus(409, container.items.upsert(person("b", "x")));
    await assertStatus(200, first.replace(person("a", "z")));
    await assertStatus(200, second.replace(person("b", "x")));
  },

  async items_live_as_long_as_they_are_told({ database }) {
    const { container } = await database.containers.create({ id: "brief", partitionKey: { paths: ["/pk"] }, defaultTtl: 1 });
    const { item } = await created(container, { id: "default", pk: "p" });
    await created(container, { id: "own", pk: "p", ttl: 1000 });
    await created(container, { id: "ever", pk: "p", ttl: -1 });
    for (const begun = Date.now(); (await statusOf(item.read())) !== 404; await pause(50)) {
      assert.ok(Date.now() - begun < 30_000, "an item outlives its time");
    }
    const { resources } = await container.items.query("SELECT VALUE c.id FROM c").fetchAll();
    assert.deepEqual([...resources].sort(), ["ever", "own"]);
    await created(container, { id: "default", pk: "p" });
  },

  async a_wrong_key_is_401() {
    const stranger = new CosmosClient({ endpoint, key: Buffer.alloc(64, 7).toString("base64") });
    try {
      await assertStatus(401, stranger.databases.readAll().fetchAll());
    } finally {
      stranger.dispose();
    }
  },
};

/** Runs every check, one after another, each against containers that only this run knows. */
async function main() {
  const client = new CosmosClient({ endpoint, key });
  const second = new CosmosClient({ endpoint, key });
  let passed = 0;
  let failed = 0;
  try {
    const { database } = await client.databases.create({ id: `sdk-javascript-${randomUUID()}` });
    const { container } = await database.containers.create({ id: "items", partitionKey: { paths: ["/pk"] } });
    const rival = second.database(database.id).container(container.id);
    for (const [name, check] of Object.entries(checks)) {
      try {
        await check({ database, container, rival });
        console.log(`ok ${name}`);
        passed += 1;
      } catch (error) {
        const reason = String(error.stack ?? error.message ?? error).replaceAll(/\s*\n\s*/g, " | ");
        console.log(`FAILED ${name}: ${reason}`);
        failed += 1;
      }
    }
    await database.delete();
  } catch (error) {
    console.log(`FAILED set-up or clean-up: ${error.stack ?? error}`);
    failed += 1;
  } finally {
    client.dispose();
    second.dispose();
  }
  console.log(`sdk javascript: ${passed} passed, ${failed} failed`);
  process.exitCode = failed === 0 ? 0 : 1;
}

await main();
