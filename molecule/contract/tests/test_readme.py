"""README.md: what it tells people to type and to read is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import PROJECT

TEXT = (PROJECT / "README.md").read_text()
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines() if line]
LINKS = [
    (document, link)
    for document in [PROJECT / "README.md", *sorted(PROJECT.glob("roles/*/README.md"))]
    for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text())
]
MAKEFILE = (PROJECT / "Makefile").read_text()


def targets() -> set[str]:
    """The targets of the Makefile."""
    return set(re.findall(r"^([.\w-]+):(?!=)", MAKEFILE, re.MULTILINE))


def test_commands_are_found() -> None:
    assert "make demo" in COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_command_exists(command: str) -> None:
    program, *words = command.split("#")[0].split()
    paths = [word for word in words if "/" in word or word.endswith(".yml")]
    if program == "make":
        assert {word for word in words if "=" not in word} <= targets()
        assert [word for word in words if "=" in word and not (PROJECT / word.partition("=")[2]).exists()] == []
    elif program.startswith(".venv/bin/"):
        assert (PROJECT / program).exists()
        assert paths
        assert [path for path in paths if not (PROJECT / path).exists()] == []
    else:
        pytest.fail(f"{program}: teach this test to check it")


@pytest.mark.parametrize("words", re.findall(r"`make ([\w-]+)`", TEXT))
def test_target_in_the_text_exists(words: str) -> None:
    assert words in targets()


@pytest.mark.parametrize(("document", "link"), LINKS, ids=lambda value: str(value).removeprefix(f"{PROJECT}/"))
def test_link_target_exists(document: Path, link: str) -> None:
    assert (document.parent / link).exists()


@pytest.mark.parametrize("target", sorted(targets() - {".PHONY", ".venv/.complete"}))
def test_target_is_phony(target: str) -> None:
    phony = {word for words in re.findall(r"^\.PHONY: (.+)$", MAKEFILE, re.MULTILINE) for word in words.split()}
    assert target in phony
