"""The official Python SDK, unmodified, against a running server: what it must be answered.

usage: python sdk.py ENDPOINT [KEY]      (or the environment: COSMOS_ENDPOINT, COSMOS_KEY)

Every check makes its own items, so that one failure explains one thing. The program prints one line a check and a
summary, and exits 1 unless every check passed. The JavaScript and Rust programs beside it make the same checks under
the same names, except where an SDK does not offer the operation.
"""

import base64
import os
import sys
import threading
import time
import traceback
import uuid
from concurrent.futures import ThreadPoolExecutor

from azure.core import MatchConditions
from azure.cosmos import CosmosClient, PartitionKey
from azure.cosmos.exceptions import CosmosBatchOperationError, CosmosHttpResponseError
from azure.cosmos.partition_key import NonePartitionKeyValue, NullPartitionKeyValue

EMULATOR_KEY = "C2y6yDjf5/R+ob0N8A7Cgv30VRDJIWEHLM+4QDU5DE2nQ9nDuVTqobD4b8mGGyPMbIZnqyMsEcaGQy67XIw/Jw=="

# The SDK returns documents without their status, so a hook keeps the status of each thread's last answer.
answers = threading.local()


def connect(endpoint, key):
    def keep(response):
        answers.status = response.http_response.status_code

    return CosmosClient(endpoint, credential=key, raw_response_hook=keep)


def if_match(etag):
    return {"etag": etag, "match_condition": MatchConditions.IfNotModified}


def if_none_match(etag):
    return {"etag": etag, "match_condition": MatchConditions.IfModified}


def equal(actual, expected, what="value"):
    if actual != expected:
        raise AssertionError(f"{what}: expected {expected!r}, got {actual!r}")


def differ(actual, other, what="value"):
    if actual == other:
        raise AssertionError(f"{what}: {actual!r} twice")


def status_of(call, *args, **kwargs):
    """The status of a call, whether the SDK returned from it or raised."""
    try:
        call(*args, **kwargs)
    except CosmosHttpResponseError as error:
        return error.status_code
    return answers.status


def has_status(expected, call, *args, **kwargs):
    equal(status_of(call, *args, **kwargs), expected, f"status of {call.__name__} {args} {kwargs}")


def user_part(item):
    """The members of an item that belong to its user: without the ones whose names begin with an underscore."""
    return {name: value for name, value in item.items() if not name.startswith("_")}


def etag_of(item):
    """The etag of an answered item, which its body and its header must agree on."""
    equal(item.get_response_headers()["etag"], item["_etag"], "the etag header, against the body")
    return item["_etag"]


def is_stored(container, expected, etag, key="p"):
    """Asserts that the stored item is exactly `expected`, under exactly `etag`."""
    item = container.read_item(expected["id"], key)
    equal(answers.status, 200, "status of a read")
    equal(user_part(item), expected, "the stored item")
    equal(etag_of(item), etag, "the etag of the stored item")


def create(container, body):
    """Creates an item and returns its etag."""
    item = container.create_item(body)
    equal(answers.status, 201, "status of a create")
    equal(user_part(item), body, "the created item")
    etag = etag_of(item)
    if not (len(etag) > 2 and etag.startswith('"') and etag.endswith('"')):
        raise AssertionError(f"an etag carries its quotes: {etag!r}")
    return etag


def replace(container, body, **condition):
    """Replaces an item and returns its new etag."""
    item = container.replace_item(body["id"], body, **condition)
    equal(answers.status, 200, "status of a replace")
    equal(user_part(item), user_part(body), "the replaced item")
    return etag_of(item)


def document(item_id, value=1):
    return {"id": item_id, "pk": "p", "value": value, "tags": ["a", "b"], "nested": {"deep": [1, 2.5, None, True]}}


def some_etag():
    return f'"{uuid.uuid4()}"'


CHECKS = []


def check(function):
    """Registers a check, which is given the database, a container on `/pk`, and the same container of a second client."""
    CHECKS.append(function)
    return function


@check
def create_answers_201_and_an_etag(database, container, rival):
    body = document("create")
    is_stored(container, body, create(container, body))


@check
def create_of_an_existing_item_is_409(database, container, rival):
    body = document("exists")
    etag = create(container, body)
    has_status(409, container.create_item, document("exists", 2))
    is_stored(container, body, etag)


@check
def read_with_the_current_etag_is_304(database, container, rival):
    etag = create(container, document("not-modified"))
    unchanged = container.read_item("not-modified", "p", **if_none_match(etag))
    equal(answers.status, 304, "status of a read of what the client has")
    equal(dict(unchanged), {}, "the body of a 304")
    equal(unchanged.get_response_headers()["etag"], etag, "the etag of a 304")
    newer = replace(container, document("not-modified", 2))
    changed = container.read_item("not-modified", "p", **if_none_match(etag))
    equal(answers.status, 200, "status of a read of what has changed")
    equal(changed["value"], 2)
    equal(etag_of(changed), newer)


@check
def replace_with_the_current_etag_is_200(database, container, rival):
    etag = create(container, document("replace"))
    newer = replace(container, document("replace", 2), **if_match(etag))
    differ(newer, etag, "the etag before and after a write")
    is_stored(container, document("replace", 2), newer)


@check
def replace_with_a_stale_etag_is_412(database, container, rival):
    etag = create(container, document("replace-stale"))
    newer = replace(container, document("replace-stale", 2), **if_match(etag))
    has_status(412, container.replace_item, "replace-stale", document("replace-stale", 3), **if_match(etag))
    is_stored(container, document("replace-stale", 2), newer)
    for nonsense in ["nonsense", str(uuid.uuid4()), some_etag(), newer.strip('"')]:
        has_status(412, container.replace_item, "replace-stale", document("replace-stale", 4), **if_match(nonsense))
    is_stored(container, document("replace-stale", 2), newer)


@check
def a_write_of_the_same_body_changes_the_etag(database, container, rival):
    body = document("same-body")
    first = create(container, body)
    second = replace(container, body)
    third = etag_of(container.upsert_item(body))
    equal(len({first, second, third}), 3, "different etags of three writes")
    has_status(412, container.replace_item, "same-body", body, **if_match(first))
    is_stored(container, body, third)


@check
def upsert_with_the_current_etag_is_200(database, container, rival):
    etag = create(container, document("upsert"))
    newer = etag_of(container.upsert_item(document("upsert", 2), **if_match(etag)))
    equal(answers.status, 200, "status of an upsert that replaces")
    differ(newer, etag, "the etag before and after a write")
    is_stored(container, document("upsert", 2), newer)


@check
def upsert_with_a_stale_etag_is_412(database, container, rival):
    etag = create(container, document("upsert-stale"))
    newer = replace(container, document("upsert-stale", 2))
    has_status(412, container.upsert_item, document("upsert-stale", 3), **if_match(etag))
    is_stored(container, document("upsert-stale", 2), newer)


@check
def upsert_without_a_condition_is_last_write_wins(database, container, rival):
    first = etag_of(container.upsert_item(document("upsert-any")))
    equal(answers.status, 201, "status of an upsert that creates")
    second = etag_of(container.upsert_item(document("upsert-any", 2)))
    equal(answers.status, 200, "status of an upsert that replaces")
    differ(second, first, "the etag before and after a write")
    is_stored(container, document("upsert-any", 2), second)


@check
def upsert_of_an_absent_item_ignores_the_etag(database, container, rival):
    body = document("upsert-absent")
    etag = etag_of(container.upsert_item(body, **if_match(some_etag())))
    equal(answers.status, 201, "status of an upsert that creates")
    is_stored(container, body, etag)


@check
def delete_with_a_stale_etag_is_412_and_with_the_current_one_204(database, container, rival):
    etag = create(container, document("delete"))
    newer = replace(container, document("delete", 2))
    has_status(412, container.delete_item, "delete", "p", **if_match(etag))
    is_stored(container, document("delete", 2), newer)
    has_status(204, container.delete_item, "delete", "p", **if_match(newer))
    has_status(404, container.read_item, "delete", "p")


@check
def a_patch_obeys_the_etag_and_its_condition(database, container, rival):
    etag = create(container, document("patch"))
    operations = [{"op": "incr", "path": "/value", "value": 2}, {"op": "add", "path": "/tags/-", "value": "c"}]
    item = container.patch_item("patch", "p", operations, **if_match(etag))
    equal(answers.status, 200, "status of a patch")
    newer = etag_of(item)
    differ(newer, etag, "the etag before and after a patch")
    patched = {**document("patch", 3), "tags": ["a", "b", "c"]}
    equal(user_part(item), patched, "the patched item")
    has_status(412, container.patch_item, "patch", "p", operations, **if_match(etag))
    has_status(412, container.patch_item, "patch", "p", operations, filter_predicate='FROM c WHERE c["value"] = 1')
    failing = [*operations, {"op": "replace", "path": "/absent", "value": 1}]
    has_status(400, container.patch_item, "patch", "p", failing)
    has_status(404, container.patch_item, "missing", "p", operations)
    is_stored(container, patched, newer)
    has_status(200, container.patch_item, "patch", "p", operations, filter_predicate='FROM c WHERE c["value"] = 3')


@check
def an_etag_does_not_outlive_its_document(database, container, rival):
    body = document("recreate")
    etag = create(container, body)
    has_status(204, container.delete_item, "recreate", "p")
    newer = create(container, body)
    differ(newer, etag, "the etag of a document and of the one created in its place")
    has_status(412, container.replace_item, "recreate", document("recreate", 2), **if_match(etag))
    has_status(412, container.delete_item, "recreate", "p", **if_match(etag))
    has_status(200, container.read_item, "recreate", "p", **if_none_match(etag))
    is_stored(container, body, newer)


@check
def missing_items_are_404_with_or_without_an_etag(database, container, rival):
    condition = if_match(some_etag())
    has_status(404, container.read_item, "missing", "p")
    has_status(404, container.replace_item, "missing", document("missing"))
    has_status(404, container.replace_item, "missing", document("missing"), **condition)
    has_status(404, container.delete_item, "missing", "p")
    has_status(404, container.delete_item, "missing", "p", **condition)
    has_status(404, container.read_item, "missing", "p")


@check
def one_etag_admits_one_of_two_writers(database, container, rival):
    etag = create(container, document("duel", 0))
    with ThreadPoolExecutor(2) as writers:
        for number in range(1, 51):
            # Neither writer starts before both threads stand at the line.
            line = threading.Barrier(2, timeout=30)

            def write(to, value, line=line, etag=etag):
                line.wait()
                return status_of(to.replace_item, "duel", document("duel", value), **if_match(etag))

            first, second = writers.submit(write, container, number), writers.submit(write, rival, -number)
            statuses = [first.result(), second.result()]
            equal(sorted(statuses), [200, 412], f"round {number}")
            stored = container.read_item("duel", "p")
            equal(stored["value"], number if statuses[0] == 200 else -number, f"the winner's value in round {number}")
            differ(stored["_etag"], etag, f"the etag before and after round {number}")
            etag = stored["_etag"]


@check
def racing_increments_lose_no_update(database, container, rival):
    create(container, document("counter", 0))

    def increment(counter):
        accepted, refused = [], 0
        while len(accepted) < 100:
            item = counter.read_item("counter", "p")
            body = {**user_part(item), "value": item["value"] + 1}
            try:
                accepted.append(replace(counter, body, **if_match(item["_etag"])))
            except CosmosHttpResponseError as error:
                equal(error.status_code, 412, "status of a refused increment")
                refused += 1
        return accepted, refused

    with ThreadPoolExecutor(2) as clients:
        results = list(clients.map(increment, [container, rival]))
    etags = [etag for accepted, _ in results for etag in accepted]
    refused = sum(count for _, count in results)
    equal(len(etags), 200, "accepted increments")
    equal(len(set(etags)), 200, "different etags of accepted increments")
    value = container.read_item("counter", "p")["value"]
    equal(value, len(etags), f"the counter after {len(etags)} accepted and {refused} refused writes")


@check
def item_ids_may_hold_any_text(database, container, rival):
    # The SDK itself refuses `/`, `\`, `#` and `?`.
    ids = ["Zoë 東京 🚀", "two words", "100%", "a%20b", "%2F", "a+b&c=d;e,f", "quotes ' and \"", "~!@$^*()[]{}|<>:.", "k" * 255]
    for item_id in ids:
        etag = create(container, document(item_id))
        is_stored(container, document(item_id), etag)
        has_status(304, container.read_item, item_id, "p", **if_none_match(etag))
        newer = replace(container, document(item_id, 2), **if_match(etag))
        has_status(412, container.delete_item, item_id, "p", **if_match(etag))
        has_status(204, container.delete_item, item_id, "p", **if_match(newer))
        has_status(404, container.read_item, item_id, "p")


@check
def hierarchical_partition_keys(database, container, rival):
    nested = database.create_container("hierarchical", PartitionKey(path=["/tenant", "/user"], kind="MultiHash"))

    def body(tenant, user, value=1):
        return {"id": "same", "tenant": tenant, "user": user, "value": value}

    places = [["t1", "u1"], ["t1", "u2"], ["t2", "u1"]]
    etags = [create(nested, body(*place)) for place in places]
    has_status(409, nested.create_item, body("t1", "u1"))
    newer = replace(nested, body("t1", "u1", 2), **if_match(etags[0]))
    has_status(412, nested.replace_item, "same", body("t1", "u1", 3), **if_match(etags[0]))
    is_stored(nested, body("t1", "u1", 2), newer, key=places[0])
    is_stored(nested, body("t1", "u2"), etags[1], key=places[1])
    is_stored(nested, body("t2", "u1"), etags[2], key=places[2])
    found = nested.query_items("SELECT * FROM c", partition_key=["t1", "u2"])
    equal([user_part(item) for item in found], [body("t1", "u2")], "a query of one full key")
    found = nested.query_items("SELECT * FROM c", partition_key=["t1"])
    equal(sorted(item["user"] for item in found), ["u1", "u2"], "a query of a key's first part")
    has_status(204, nested.delete_item, "same", places[1], **if_match(etags[1]))
    has_status(404, nested.read_item, "same", places[1])
    has_status(200, nested.read_item, "same", places[2])


@check
def null_missing_and_text_partition_keys_differ(database, container, rival):
    places = [
        (NullPartitionKeyValue, lambda value: {"id": "keyless", "pk": None, "value": value}),
        (NonePartitionKeyValue, lambda value: {"id": "keyless", "value": value}),
        ("null", lambda value: {"id": "keyless", "pk": "null", "value": value}),
        ("", lambda value: {"id": "keyless", "pk": "", "value": value}),
        (0, lambda value: {"id": "keyless", "pk": 0, "value": value}),
        (False, lambda value: {"id": "keyless", "pk": False, "value": value}),
    ]
    etags = [create(container, body(1)) for _, body in places]
    for number, (key, body) in enumerate(places):
        is_stored(container, body(1), etags[number], key=key)
        newer = replace(container, body(number + 2), **if_match(etags[number]))
        has_status(412, container.delete_item, "keyless", key, **if_match(etags[number]))
        is_stored(container, body(number + 2), newer, key=key)
        has_status(204, container.delete_item, "keyless", key, **if_match(newer))
        has_status(404, container.read_item, "keyless", key)


@check
def pages_hold_every_item_once(database, container, rival):
    paged = database.create_container("paged", PartitionKey(path="/pk"))
    names = [f"page-{number:02}" for number in range(25)]
    for number, name in enumerate(names):
        create(paged, {"id": name, "pk": f"p{number % 3}"})

    def collect(feed):
        seen, pages, continuation = [], 0, None
        while True:
            # A fresh iterator for every page: only the continuation carries the position over.
            pager = feed().by_page(continuation)
            page = [item["id"] for item in next(pager, [])]
            if len(page) > 10:
                raise AssertionError(f"{len(page)} items in a page of 10")
            seen += page
            pages += 1
            continuation = pager.continuation_token
            if not continuation:
                return sorted(seen), pages
            if pages > 26:
                raise AssertionError("the pages never end")

    for feed in [
        lambda: paged.read_all_items(max_item_count=10),
        lambda: paged.query_items("SELECT * FROM c", enable_cross_partition_query=True, max_item_count=10),
    ]:
        seen, pages = collect(feed)
        equal(seen, names, "what the pages held")
        if pages < 3:
            raise AssertionError(f"25 items in {pages} pages of 10")
    equal(sorted(item["id"] for item in paged.read_all_items(max_item_count=10)), names, "what one iterator yields")


@check
def queries_take_parameters(database, container, rival):
    fruits = [("apple", 3), ("banana", 1), ('cherry, "dark"', 8), ("apple", 5)]
    for number, (name, price) in enumerate(fruits):
        create(container, {"id": f"fruit-{number}", "pk": "odd" if number % 2 else "even", "name": name, "price": price})

    def prices(name, least, **scope):
        found = container.query_items(
            "SELECT * FROM c WHERE c.name = @name AND c.price >= @least",
            parameters=[{"name": "@name", "value": name}, {"name": "@least", "value": least}],
            **(scope or {"enable_cross_partition_query": True}),
        )
        return sorted(item["price"] for item in found)

    equal(prices("apple", 0), [3, 5])
    equal(prices("apple", 4), [5])
    equal(prices('cherry, "dark"', 0), [8])
    equal(prices("apple' OR 1=1", 0), [])
    equal(prices("apple", 0, partition_key="even"), [3])
    has_status(400, lambda: list(container.query_items("SELEKT nothing", partition_key="even")))


@check
def the_change_feed_tells_each_changed_item_once(database, container, rival):
    fed = database.create_container("feed", PartitionKey(path="/pk"))

    def body(item_id, value):
        return {"id": item_id, "pk": f"p-{item_id}", "value": value}

    def changes(**start):
        seen = [user_part(item) for item in fed.query_items_change_feed(max_item_count=2, **start)]
        return seen, fed.client_connection.last_response_headers["etag"]

    for item_id in ["a", "b", "c", "d", "e"]:
        create(fed, body(item_id, 1))
    replace(fed, body("a", 2))
    fed.delete_item("c", "p-c")
    seen, position = changes(start_time="Beginning")
    equal(seen, [body("b", 1), body("d", 1), body("e", 1), body("a", 2)], "the latest versions, oldest change first")
    equal(changes(continuation=position)[0], [], "what has changed since")
    create(fed, body("f", 1))
    replace(fed, body("b", 2))
    equal(changes(continuation=position)[0], [body("f", 1), body("b", 2)], "what has changed since")


@check
def all_versions_and_deletes_are_told(database, container, rival):
    fed = database.create_container("versions", PartitionKey(path="/pk"))

    def changes(**start):
        mode = "AllVersionsAndDeletes"
        seen = [
            (change["metadata"]["operationType"], change["current"].get("value"), change.get("previous", {}).get("value"))
            for change in fed.query_items_change_feed(mode=mode, **start)
        ]
        return seen, fed.client_connection.last_response_headers["etag"]

    position = changes(start_time="Now")[1]
    create(fed, {"id": "a", "pk": "p", "value": 1})
    replace(fed, {"id": "a", "pk": "p", "value": 2})
    fed.delete_item("a", "p")
    told, position = changes(continuation=position)
    equal(told, [("create", 1, None), ("replace", 2, 1), ("delete", None, 2)], "every version and the delete")
    equal(changes(continuation=position)[0], [], "what has changed since")


@check
def unique_keys_are_kept(database, container, rival):
    policy = {"uniqueKeys": [{"paths": ["/email"]}]}
    people = database.create_container("people", PartitionKey(path="/pk"), unique_key_policy=policy)

    def person(item_id, email):
        return {"id": item_id, "pk": "p", "email": email}

    create(people, person("a", "x"))
    has_status(409, people.create_item, person("b", "x"))
    create(people, person("b", "y"))
    has_status(409, people.replace_item, "b", person("b", "x"))
    has_status(409, people.upsert_item, person("b", "x"))
    replace(people, person("a", "z"))
    replace(people, person("b", "x"))


@check
def items_live_as_long_as_they_are_told(database, container, rival):
    brief = database.create_container("brief", PartitionKey(path="/pk"), default_ttl=1)
    create(brief, {"id": "default", "pk": "p"})
    create(brief, {"id": "own", "pk": "p", "ttl": 1000})
    create(brief, {"id": "ever", "pk": "p", "ttl": -1})
    begun = time.monotonic()
    while status_of(brief.read_item, "default", "p") != 404:
        if time.monotonic() - begun > 30:
            raise AssertionError("an item outlives its time")
        time.sleep(0.05)
    equal(sorted(item["id"] for item in brief.read_all_items()), ["ever", "own"], "what is left")
    create(brief, {"id": "default", "pk": "p"})


@check
def several_ranges_are_one_container(database, container, rival):
    wide = database.create_container("wide", PartitionKey(path="/pk"), offer_throughput=18000)
    for number in range(30):
        create(wide, {"id": f"w{number}", "pk": f"p{number}", "number": number})
    ranges = list(wide.read_feed_ranges())
    equal(len(ranges), 3, "ranges")
    read = [item["number"] for feed_range in ranges for item in wide.query_items("SELECT * FROM c", feed_range=feed_range)]
    equal(sorted(read), list(range(30)), "what the ranges hold")
    ordered = wide.query_items("SELECT VALUE c.number FROM c ORDER BY c.number DESC", enable_cross_partition_query=True)
    equal(list(ordered), list(range(29, -1, -1)), "all in order")
    many = wide.read_items([(f"w{number}", f"p{number}") for number in range(0, 30, 3)])
    equal(sorted(item["number"] for item in many), list(range(0, 30, 3)), "items read by id")


@check
def a_batch_is_applied_whole(database, container, rival):
    def body(item_id, value=1):
        return {"id": item_id, "pk": "batch", "value": value}

    replaced = create(container, body("batch-replaced"))
    deleted = create(container, body("batch-deleted"))
    results = container.execute_item_batch(
        [
            ("create", (body("batch-created"),)),
            ("replace", ("batch-replaced", body("batch-replaced", 2)), {"if_match_etag": replaced}),
            ("upsert", (body("batch-upserted"),)),
            ("read", ("batch-replaced",)),
            ("delete", ("batch-deleted",), {"if_match_etag": deleted}),
        ],
        "batch",
    )
    equal(answers.status, 200, "status of the batch")
    equal([result["statusCode"] for result in results], [201, 200, 201, 200, 204], "statuses in the batch")
    equal(results[3]["resourceBody"]["value"], 2, "what a batch reads of its own writes")
    is_stored(container, body("batch-created"), results[0]["eTag"], key="batch")
    is_stored(container, body("batch-replaced", 2), results[1]["eTag"], key="batch")
    is_stored(container, body("batch-upserted"), results[2]["eTag"], key="batch")
    has_status(404, container.read_item, "batch-deleted", "batch")


@check
def a_failed_batch_writes_nothing(database, container, rival):
    def body(item_id, value=1):
        return {"id": item_id, "pk": "batch", "value": value}

    stale = create(container, body("batch-kept"))
    current = replace(container, body("batch-kept", 2))
    failing = [
        (412, ("replace", ("batch-kept", body("batch-kept", 9)), {"if_match_etag": stale})),
        (412, ("upsert", (body("batch-kept", 9),), {"if_match_etag": stale})),
        (412, ("delete", ("batch-kept",), {"if_match_etag": stale})),
        (409, ("create", (body("batch-kept", 9),))),
        (404, ("replace", ("batch-absent", body("batch-absent")))),
        (404, ("read", ("batch-absent",))),
        (404, ("delete", ("batch-absent",))),
    ]
    for status, operation in failing:
        what = f"a batch whose {operation[0]} must fail with {status}"
        operations = [("create", (body("batch-never"),)), operation, ("upsert", (body("batch-kept", 8),))]
        try:
            container.execute_item_batch(operations, "batch")
        except CosmosBatchOperationError as error:
            equal(answers.status, 207, f"status of {what}")
            equal((error.error_index, error.status_code), (1, status), what)
            equal([result["statusCode"] for result in error.operation_responses], [424, status, 424], what)
        else:
            raise AssertionError(f"{what} succeeded")
        has_status(404, container.read_item, "batch-never", "batch")
        is_stored(container, body("batch-kept", 2), current, key="batch")


@check
def a_wrong_key_is_401(database, container, rival):
    endpoint = database.client_connection.url_connection
    key = base64.b64encode(bytes([7] * 64)).decode()
    has_status(401, lambda: list(connect(endpoint, key).list_databases()))


def main():
    """Runs every check, one after another, each against containers that only this run knows."""
    arguments = sys.argv[1:]
    endpoint = arguments[0] if arguments else os.environ.get("COSMOS_ENDPOINT")
    key = arguments[1] if len(arguments) > 1 else os.environ.get("COSMOS_KEY", EMULATOR_KEY)
    if not endpoint:
        print("usage: python sdk.py ENDPOINT [KEY]", file=sys.stderr)
        return 2

    passed = failed = 0
    try:
        client, second = connect(endpoint, key), connect(endpoint, key)
        database = client.create_database(f"sdk-python-{uuid.uuid4()}")
        container = database.create_container("items", PartitionKey(path="/pk"))
        rival = second.get_database_client(database.id).get_container_client(container.id)
        for function in CHECKS:
            try:
                function(database, container, rival)
            except Exception:
                reason = " | ".join(line.strip() for line in traceback.format_exc().splitlines()[-8:])
                print(f"FAILED {function.__name__}: {reason}", flush=True)
                failed += 1
            else:
                print(f"ok {function.__name__}", flush=True)
                passed += 1
        client.delete_database(database.id)
    except Exception as error:
        print(f"FAILED set-up or clean-up: {error!r}", flush=True)
        failed += 1
    print(f"sdk python: {passed} passed, {failed} failed", flush=True)
    return 0 if failed == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
