"""A pytest plugin: makes the SDK's own tests run against any server, and prints each outcome as a line of JSON.

The lines go to the file that `ETAGDB_OUTCOMES` names. The last one is `{"complete": COUNT}`, where COUNT is how many tests
were chosen; without it the run did not get to its end.
"""

import json
import os

import test_config

# The suite takes a server for the emulator by its address. A server at any address is to be tested as one.
test_config.TestConfig.is_emulator = True
test_config.TestConfig.credential = test_config.TestConfig.masterKey
test_config.TestConfig.credential_async = test_config.TestConfig.masterKey
# Tests with two regions take the emulator's own port for both, whatever address they were given.
test_config.TestConfig.local_host = test_config.TestConfig.host

chosen = 0


def tell(line):
    with open(os.environ["ETAGDB_OUTCOMES"], "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def message_of(report):
    crash = getattr(report.longrepr, "reprcrash", None)
    return (crash.message if crash else str(report.longrepr))[:2000]


def pytest_collection_finish(session):
    global chosen
    chosen = len(session.items)


def pytest_collectreport(report):
    if report.failed:
        tell({"test": report.nodeid, "outcome": "failed", "message": message_of(report)})


def pytest_runtest_logreport(report):
    # A test that is skipped or fails while it is set up is never called.
    if report.when == "call" or (report.when == "setup" and not report.passed):
        outcome = "skipped" if hasattr(report, "wasxfail") else report.outcome
        tell({"test": report.nodeid, "outcome": outcome, "message": message_of(report) if report.failed else ""})


def pytest_sessionfinish(session):
    tell({"complete": chosen})
