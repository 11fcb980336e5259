"""A storm of conditional writes through the official Python SDK: many clients read documents and replace them if nobody
else has, until standard input ends. The server is killed and started again meanwhile.

usage: python storm.py ENDPOINT KEY CLIENTS DOCUMENTS

Prints `ready` once every client has connected, and then a line of JSON for every write it tried: what it had read, what
it wrote, and whether that was acknowledged, refused, or is unknown. It judges nothing. The JavaScript, Rust and Go
programs beside it do the same.
"""

import json
import random
import sys
import threading
import time

from azure.core import MatchConditions
from azure.core.exceptions import AzureError
from azure.cosmos import CosmosClient
from azure.cosmos.exceptions import CosmosHttpResponseError

over = threading.Event()
printing = threading.Lock()


def say(line):
    with printing:
        print(line, flush=True)


def now():
    return time.time_ns() // 1_000_000


def storm(client, writer, documents):
    """Reads and replaces documents, one after another, for as long as the storm lasts."""
    container = client.get_database_client("storm").get_container_client("documents")
    number = 0
    while not over.is_set():
        number += 1
        item_id = f"d{random.randrange(documents)}"
        asked = now()
        try:
            item = container.read_item(item_id, item_id)
        except AzureError:
            # The server is away. A read promises nothing, so there is nothing to tell.
            over.wait(0.02)
            continue
        read = {"etag": item["_etag"], "count": item["count"], "marker": item["marker"]}
        marker = f"{writer}-{number}"
        attempt = {"writer": writer, "document": item_id, "asked": asked, "read": read, "marker": marker, "began": now()}
        body = {"id": item_id, "pk": item_id, "count": read["count"] + 1, "marker": marker, "previous": read["marker"]}
        try:
            condition = {"etag": read["etag"], "match_condition": MatchConditions.IfNotModified}
            written = container.replace_item(item_id, body, **condition)
            attempt |= {"outcome": "acknowledged", "etag": written["_etag"]}
        except CosmosHttpResponseError as error:
            attempt |= {"outcome": "refused"} if error.status_code == 412 else {"outcome": "unknown", "status": error.status_code}
        except AzureError:
            attempt |= {"outcome": "unknown"}
        attempt["ended"] = now()
        say(json.dumps(attempt))
        if attempt["outcome"] == "unknown":
            over.wait(0.02)


def main():
    endpoint, key, clients, documents = sys.argv[1:]
    connected = [CosmosClient(endpoint, credential=key) for _ in range(int(clients))]
    say("ready")
    threads = [
        threading.Thread(target=storm, args=(client, f"python-{number}", int(documents)))
        for number, client in enumerate(connected)
    ]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    over.set()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
