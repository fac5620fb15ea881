"""Reads requirements files with the encodings and line breaks that pip knows."""

from __future__ import annotations

import codecs
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .sources import SourceError

# The longest first: the mark of UTF-32 begins like that of UTF-16.
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"), (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"),
)  # fmt: skip
ENCODING = re.compile(rb"\A(?:.*\n)?[ \t]*#.*?coding[:=][ \t]*([-\w.]+)")  # PEP 263
COMMENT = re.compile(r"(^|\s+)#.*$")


def logical_lines(text: str) -> Iterator[tuple[int, str, str]]:
    """Logical lines: the number of the first line, the lines as written, and the lines joined without comments."""
    lines = text.splitlines()
    start = 0
    for number, line in enumerate(lines):
        if line.endswith("\\") and number + 1 < len(lines) and not line.lstrip().startswith("#"):
            continue
        written = lines[start : number + 1]
        joined = "".join(f"{COMMENT.sub('', one).removesuffix(chr(92))} " for one in written)
        yield start + 1, "".join(f"{one}\n" for one in written), COMMENT.sub("", joined).strip()
        start = number + 1


def read_text(path: Path) -> str:
    """The text of a file, in the encoding of its byte order mark or PEP 263 comment, else in UTF-8."""
    content = path.read_bytes()
    mark, encoding = next((one for one in BYTE_ORDER_MARKS if content.startswith(one[0])), (b"", ""))
    named = ENCODING.match(content)
    encoding = encoding or (named[1].decode() if named else "utf-8")
    try:
        return content.removeprefix(mark).decode(encoding)
    except (UnicodeDecodeError, LookupError) as error:
        line = content[: getattr(error, "start", 0)].count(b"\n") + 1
        raise SourceError(f"{path}:{line}: it is no text in {encoding}; save the file as UTF-8") from error


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file.

    :raises SourceError: it is not TOML; the message names the file.
    """
    try:
        return tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise SourceError(f"{path}: it can't be read: {error}") from error
