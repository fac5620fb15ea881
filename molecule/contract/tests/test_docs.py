"""The documentation: its links and headings exist, and so do the playbooks and paths that it speaks of."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import PROJECT

PAGES = sorted(
    [
        *PROJECT.glob("docs/*.md"),
        PROJECT / "README.md",
        PROJECT / "SECURITY.md",
        PROJECT / "CHANGELOG.md",
        *PROJECT.glob("roles/*/README.md"),
    ]
)
STATE = PROJECT / "docs/state-on-hosts.md"
CODE = "\n".join(
    path.read_text()
    for folder in ("plugins", "roles")
    for pattern in ("**/*.py", "**/*.j2", "*/tasks/*.yml", "*/defaults/*.yml")
    for path in sorted((PROJECT / folder).glob(pattern))
)
TEMPLATES = {
    f"/{path.relative_to(folder).with_suffix('')}"
    for folder in PROJECT.glob("roles/*/templates")
    for path in folder.rglob("*.j2")
}
GUIDE = PROJECT / "docs/contributing.md"
KINDS = ("/var/lib/flaskfleet", "/run/flaskfleet", "/etc/flaskfleet", "/srv/<app>")


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as code hosts and MyST name them."""
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} (.+)$", prose(page), re.MULTILINE):
        words = re.sub(r"\[([^]]+)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
        name = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        number = sum(1 for one in found if re.fullmatch(rf"{re.escape(name)}(-\d+)?", one))
        found.add(f"{name}-{number}" if number else name)
    return found


def links() -> list[tuple[Path, str]]:
    """The links of all pages that lead to the repository."""
    pattern = r"\]\((?!https?:|mailto:)([^)\s]+)\)"
    return [(page, link) for page in PAGES for link in re.findall(pattern, re.sub(r"`[^`\n]*`", "", prose(page)))]


def rows(page: Path) -> list[list[str]]:
    """The rows of a page's tables, as cells."""
    lines = (line for line in page.read_text().splitlines() if line.startswith("| "))
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def paths() -> list[str]:
    """The paths in the first column of the tables of state-on-hosts.md that are flaskfleet's own."""
    found = (path for row in rows(STATE) for path in re.findall(r"`([^`]+)`", row[0]))
    return [path for path in found if path.startswith(KINDS)]


def is_in_code(path: str) -> bool:
    """Whether the code knows a path: as a template, as one text, or by each of its names.

    A name may be made of two texts there, like ``base`` and ``.fact``; what stands in <> is the code's to fill in.
    """
    if path in TEMPLATES or path in CODE:
        return True
    names = [name for part in re.split(r"<[^>]+>", path) for name in part.split("/") if name]
    return all(_is_named(name) for name in names)


def _is_named(name: str) -> bool:
    stem, dot, suffix = name.rpartition(".")
    return _is_quoted(name) or bool(dot and _is_quoted(f".{suffix}") and (not stem or _is_quoted(stem)))


def _is_quoted(name: str) -> bool:
    """Whether the code has it as a text, or as a part of one between slashes, dots and braces."""
    return bool(re.search(rf"[\"'/}}]{re.escape(name)}[\"'/{{.]", CODE))


def guide() -> dict[str, str]:
    """The sections of contributing.md that say how to add something, by their headings."""
    sections = re.split(r"^## (.+)\n", GUIDE.read_text(), flags=re.MULTILINE)[1:]
    return {name: text for name, text in zip(sections[::2], sections[1::2], strict=True) if name.startswith("Add ")}


def linked(text: str) -> list[Path]:
    """The files and folders that a text of contributing.md links to."""
    return [(GUIDE.parent / link).resolve() for link in re.findall(r"\]\(([^)#]+)\)", text)]


def contents(paths: list[Path]) -> str:
    """The texts of files, and of those below folders."""
    files = [file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    return "\n".join(file.read_text() for file in files if file.is_file())


def steps() -> list[tuple[str, int, str, str]]:
    """The rows of the guide's tables of files: the section, the table's number in it, the files, what stands there."""
    pattern = re.compile(r"^\| file \| what stands there \|\n\|---\|---\|\n((?:\|.*\n)+)", re.MULTILINE)
    return [
        (section, number, *re.split(r"(?<!\\)\|", line)[1:-1])
        for section, text in guide().items()
        for number, table in enumerate(pattern.findall(text))
        for line in table.splitlines()
    ]


def test_pages_are_found() -> None:
    names = {page.name for page in PAGES}
    assert {"index.md", "architecture.md", "state-on-hosts.md", "SECURITY.md", "README.md"} <= names
    assert len(links()) > 100
    assert len(paths()) > 30


@pytest.mark.parametrize(("page", "link"), links(), ids=lambda value: str(value).removeprefix(f"{PROJECT}/"))
def test_link_leads_to_a_file_and_a_heading(page: Path, link: str) -> None:
    name, _, anchor = link.partition("#")
    target = (page.parent / name).resolve() if name else page
    assert target.exists()
    assert target.is_relative_to(PROJECT)
    assert not anchor or anchor in anchors(target)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_page_has_one_title(page: Path) -> None:
    assert len(re.findall(r"^# ", prose(page), re.MULTILINE)) == 1


@pytest.mark.parametrize("page", sorted(PROJECT.glob("docs/*.md")), ids=lambda page: page.name)
def test_index_and_menu_name_the_page(page: Path) -> None:
    if page.name != "index.md":
        assert f"]({page.name})" in (PROJECT / "docs/index.md").read_text()
        assert f'"docs/{page.stem}"' in (PROJECT / "docs/conf.py").read_text()


@pytest.mark.parametrize("playbook", sorted(path.name for path in PROJECT.glob("playbooks/*.yml")))
def test_playbook_is_mentioned(playbook: str) -> None:
    assert any(re.search(rf"(?<![\w-]){re.escape(playbook)}", page.read_text()) for page in PAGES)


@pytest.mark.parametrize("path", paths())
def test_path_on_a_host_is_in_the_code(path: str) -> None:
    assert is_in_code(path)


@pytest.mark.parametrize("path", sorted(TEMPLATES))
def test_file_of_a_template_is_in_the_table(path: str) -> None:
    told = {one for row in rows(STATE) for one in re.findall(r"`([^`]+)`", row[0])}
    assert re.sub(r"\{(\w+)\}", r"<\1>", path.replace("{balanced}", "{site}")) in told


@pytest.mark.parametrize("row", rows(STATE), ids=lambda row: row[0][:60])
def test_every_row_has_the_effect_of_a_deletion(row: list[str]) -> None:
    assert all(row)


@pytest.mark.parametrize(("section", "number", "files", "words"), steps())
def test_the_guide_says_what_stands_in_a_file(section: str, number: int, files: str, words: str) -> None:
    text = contents(linked(files))
    told = [word.replace(r"\|", "|") for word in re.findall(r"`([^`]+)`", words)]
    assert told
    assert [word for word in told if not re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text)] == []


@pytest.mark.parametrize("section", guide())
def test_the_guide_shows_code_as_it_is(section: str) -> None:
    blocks = re.findall(r"^```\w+\n(.*?)^```$", guide()[section], re.DOTALL | re.MULTILINE)
    assert [block for block in blocks if block not in contents(linked(guide()[section]))] == []


@pytest.mark.parametrize(
    ("section", "number", "most"),
    [
        ("Add an option of an app", 0, 4),
        ("Add a line to the server block", 0, 2),
        ("Add a role", 1, 4),  # outside of its own folder
    ],
)
def test_to_add_something_takes_few_files(section: str, number: int, most: int) -> None:
    files = [path for step in steps() if step[:2] == (section, number) for path in linked(step[2])]
    assert 0 < len(files) <= most
