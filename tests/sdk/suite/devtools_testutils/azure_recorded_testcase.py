"""Stands in for a tool of the SDK's repository that is not published: here the account key is the credential."""

import os


def get_credential(**_):
    return os.environ["ACCOUNT_KEY"]
