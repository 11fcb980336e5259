"""What the official Python SDK is answered, operation by condition: the cells of CONFORMANCE.md in its column.

usage: python conformance.py ENDPOINT

Prints one line a cell: operation, target, condition and status, with tabs between them.
"""

import sys
import uuid

from azure.core import MatchConditions
from azure.cosmos import CosmosClient, PartitionKey
from azure.cosmos.exceptions import CosmosBatchOperationError, CosmosHttpResponseError

KEY = "C2y6yDjf5/R+ob0N8A7Cgv30VRDJIWEHLM+4QDU5DE2nQ9nDuVTqobD4b8mGGyPMbIZnqyMsEcaGQy67XIw/Jw=="

# The SDK returns documents without their status, so a hook keeps that of the last answer.
last = {}


def keep(response):
    last["status"] = response.http_response.status_code


client = CosmosClient(sys.argv[1], KEY, raw_response_hook=keep)
database = client.create_database_if_not_exists("conformance")
container = database.create_container_if_not_exists("python", PartitionKey("/pk"))


def body(id, n):
    return {"id": id, "pk": "p", "n": n}


def status_of(call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except CosmosBatchOperationError as error:
        return error.operation_responses[0]["statusCode"]
    except CosmosHttpResponseError as error:
        return error.status_code
    return last["status"]


def batched(operation, etag):
    def run():
        result = container.execute_item_batch([(*operation, {"if_match_etag": etag}) if etag else operation], "p")
        last["status"] = result[0]["statusCode"]

    return status_of(run)


INCREMENT = [{"op": "incr", "path": "/n", "value": 1}]
OPERATIONS = {
    "read": lambda id, options: status_of(container.read_item, id, "p", **options),
    "create": lambda id, options: status_of(container.create_item, body(id, 9), **options),
    "replace": lambda id, options: status_of(container.replace_item, id, body(id, 9), **options),
    "upsert": lambda id, options: status_of(container.upsert_item, body(id, 9), **options),
    "patch": lambda id, options: status_of(container.patch_item, id, "p", INCREMENT, **options),
    "delete": lambda id, options: status_of(container.delete_item, id, "p", **options),
    "batch replace": lambda id, options: batched(("replace", (id, body(id, 9))), options.get("etag")),
    "batch delete": lambda id, options: batched(("delete", (id,)), options.get("etag")),
}

for operation, run in OPERATIONS.items():
    for target in ["present", "absent"]:
        for condition in [
            "none",
            "If-Match: current",
            "If-Match: stale",
            "If-Match: *",
            "If-None-Match: current",
            "If-None-Match: stale",
            "If-None-Match: *",
        ]:
            header, _, which = condition.partition(": ")
            if target == "absent" and which == "current":
                continue
            if operation.startswith("batch") and (header == "If-None-Match" or which == "*"):
                continue
            id = str(uuid.uuid4())
            etags = {"stale": container.create_item(body(id, 1))["_etag"]}
            etags["current"] = container.replace_item(id, body(id, 2))["_etag"]
            if target == "absent":
                container.delete_item(id, "p")
            options = {}
            if which == "*":
                # The SDK has names for the star, and sends no etag with them.
                star = MatchConditions.IfPresent if header == "If-Match" else MatchConditions.IfMissing
                options = {"match_condition": star}
            elif which:
                which_way = MatchConditions.IfNotModified if header == "If-Match" else MatchConditions.IfModified
                options = {"etag": etags[which], "match_condition": which_way}
            print(operation, target, condition, run(id, options), sep="\t")
