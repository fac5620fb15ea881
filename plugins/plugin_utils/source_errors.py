"""The error about an app's source, and the removal of credentials from messages."""

from __future__ import annotations

import re


class SourceError(ValueError):
    """A source can't be fetched or packed; the message has the value and says what to do."""


def redact(text: str) -> str:
    """A text without the credentials and queries of its URLs. A query may be a signature.

    >>> redact("see https://user:token@host/x?signature=1 and ssh://git:word@host/y")
    'see https://host/x and ssh://git@host/y'
    """
    text = re.sub(r"(?i)(https?://)(?:[^\s/]*@|[^\s/]+:\S*@)", r"\1", text)
    text = re.sub(r"(?i)(ssh://[^\s/:@]*):[^\s/]*@", r"\1@", text)
    return re.sub(r"(?i)(https?://[^\s?'\"]*)\?[^\s'\"]*", r"\1", text)
