"""Errors of readers and downloads."""

from __future__ import annotations


class DownloadError(OSError):
    """A file could not be downloaded or stored in the cache.

    Example:
        >>> try:
        ...     model = keras_resnet.ResNet50(weights="imagenet")
        ... except keras_resnet.weights.DownloadError as error:
        ...     print(error)  # names the URL, the cause, and where to put the file by hand
    """


class NotFoundError(DownloadError):
    """The server does not have the file."""


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message, or the name of its class."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
