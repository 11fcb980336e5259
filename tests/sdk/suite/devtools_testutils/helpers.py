"""Stands in for a tool of the SDK's repository that is not published: nothing here is played back from a recording."""


def is_live():
    return True
