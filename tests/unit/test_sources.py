"""A source is on the controller, complete and as named, or the message says why it is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from origins import own_cache
from plugin_utils.sources import SourceError, describe, fetch, fetched, redact

COMMIT = "1a2b3c4" + "0" * 33


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return own_cache(tmp_path, monkeypatch)


@pytest.mark.parametrize("source", [{}, {"path": None}, {"path": "/", "package": "a==1"}])
@pytest.mark.parametrize("look", [fetch, fetched])
def test_exactly_one_kind_is_given(source: dict[str, Any], look: Callable[..., object]) -> None:
    with pytest.raises(SourceError, match="give exactly one of path, git, archive, package"):
        look(source)


@pytest.mark.parametrize("look", [fetch, fetched])
def test_a_folder_is_itself(tmp_path: Path, look: Callable[..., object]) -> None:
    assert look({"path": str(tmp_path)}) == (tmp_path, {"path": str(tmp_path)})


@pytest.mark.parametrize(
    ("path", "words"),
    [("files/app", "'files/app' must be absolute"), ("/no-such-folder", "'/no-such-folder' there is no such folder")],
)
def test_a_folder_that_is_not_there_is_refused(path: str, words: str) -> None:
    with pytest.raises(SourceError, match=words):
        fetch({"path": path})


@pytest.mark.parametrize("look", [fetch, fetched])
def test_a_package_has_no_folder(look: Callable[..., object]) -> None:
    line = f"blog[mail]==1.2 --hash=sha256:{'0' * 64} --hash=sha256:{'1' * 64}"
    assert look({"package": line}) == (None, {"package": "blog[mail]==1.2"})


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"path": "/x"}, "/x"),
        ({"git": "https://h/r", "version": "main", "commit": COMMIT}, "https://h/r main (1a2b3c4)"),
        ({"git": "https://h/r", "version": COMMIT, "commit": COMMIT}, "https://h/r (1a2b3c4)"),
        ({"archive": "https://h/a.zip", "sha256": "9f" * 32}, "https://h/a.zip (sha256 9f9f9f9)"),
        ({"package": "blog==1.2"}, "blog==1.2"),
    ],
)  # fmt: skip
def test_an_origin_in_words(record: dict[str, str], words: str) -> None:
    assert describe(record) == words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("'https://me:t0ken@h/x': no", "'https://h/x': no"),
        ("https://t0ken@h/x", "https://h/x"),
        ("HTTPS://t0ken@h/x", "HTTPS://h/x"),
        ("https://me:t0@ken@h/x", "https://h/x"),
        ("https://me:t0/ken@h/x", "https://h/x"),
        ("ssh://git:t0ken@h/x", "ssh://git@h/x"),
        ("ssh://git@h/x git@h:x", "ssh://git@h/x git@h:x"),
        ("{'url': 'https://h/a.zip?X-Signature=t0ken', 'sha256': 1}", "{'url': 'https://h/a.zip', 'sha256': 1}"),
        ("https://h/@scope/x", "https://h/@scope/x"),
        ("https://a/x https://me:t0ken@b/y", "https://a/x https://b/y"),
    ],
)
def test_redacted(text: str, expected: str) -> None:
    assert redact(text) == expected
