"""What object stores and their drivers say when they fail, as one kind of error."""

from __future__ import annotations

import re

from .address import SCHEMES

_REFUSED = (
    *("credential", "denied", "forbidden", "401", "403", "unauthorized", "invalidaccesskey"),
    *("token has expired", "expiredtoken", "signature", "bad request"),
)
ABSENT = ("nosuchbucket", "bucket does not exist", "404", "not found")
# What a conditional write says where another one wins: S3 answers 412, or 409 to those that come
# at the same moment (Amazon S3 User Guide, "Conditional writes").
WON_BY_ANOTHER = (
    "preconditionfailed",
    "conditionalrequestconflict",
    "precondition failed",
    "pre-conditions you",
)


class StoreError(OSError):
    """An object store did not do what it was asked to.

    Attributes:
        refused: Whether it did not allow it, so that trying again is of no use.
    """

    refused = False


def explained(url: str, error: Exception) -> str:
    """Returns what a driver says, and what to do."""
    scheme, _, rest = url.partition("://")
    text = " ".join(str(error).split())[:300] or type(error).__name__
    if is_refused(error):
        return f"{text.rstrip('.')}. Credentials: {SCHEMES[scheme].credentials}"
    if says(error, ABSENT):
        bucket = rest.split("/")[0]
        return f"{text.rstrip('.')}. Create the bucket {bucket!r} first, or check its name"
    return text


def is_refused(error: Exception) -> bool:
    """Whether a store did not allow a request."""
    return isinstance(error, PermissionError) or says(error, _REFUSED)


def says(error: Exception, words: tuple[str, ...]) -> bool:
    """Whether an error, or the name of its kind, has one of some words; numbers stand alone."""
    text = f"{type(error).__name__} {error}".lower()
    numbers = re.findall(r"(?<![\w.:/-])\d+(?![\w/-])", text)
    return any(word in numbers if word.isdigit() else word in text for word in words)
