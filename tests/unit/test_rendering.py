"""A folder of templates becomes a config tree, which is named by a hash over its files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from plugin_utils import rendering
from plugin_utils.rendering import expand, render, render_tree

SITES = [{"name": "blog", "port": 80}, {"name": "shop", "port": 81}]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """A function that writes a template below the folder of the role's templates."""

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


@pytest.fixture
def text(write: Callable[[str, str], Path]) -> Callable[..., str]:
    """A function that renders a text."""
    return lambda source, **variables: render(Templar(DataLoader()), write("a.conf.j2", source), variables)


@pytest.fixture
def tree(tmp_path: Path) -> Callable[..., tuple[dict[str, dict[str, str]], str]]:
    """A function that renders the folder: its files by path, and its hash."""

    def tree(each=None, exclude=(), modes=None, groups=None, **variables: Any) -> tuple[dict[str, dict[str, str]], str]:
        patterns = (list(exclude), modes or {}, groups or {})
        files, name = render_tree(Templar(DataLoader()), tmp_path, variables, each or {}, *patterns)
        assert [file["path"] for file in files] == list(dict.fromkeys(file["path"] for file in files))
        return {file["path"]: file for file in files}, name

    return tree


# one template


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a = {{ a }}\n", "a = 1\n"),
        ("no line's end", "no line's end"),
        ("{% if a %}\nyes\n{% endif %}\n", "yes\n"),
        ("    {% if a %}\n    yes\n    {% endif %}\nafter\n", "    yes\nafter\n"),
        (r"\d{{ a }}\n" + "\n", "\\d1\\n\n"),
        (r"{{ 'a\tb' }}", "a\tb"),
        ("☃\n\n", "☃\n\n"),
        ("{{ list | to_json }}\n", "[1, 2]\n"),
        ("{{ list }}", "[1, 2]"),
    ],
    ids=[
        "variable",
        "no newline",
        "block",
        "indented block",
        "backslash",
        "escape",
        "blank end",
        "a filter",
        "only a list",
    ],
)
def test_a_template_renders(text: Callable[..., str], source: str, expected: str) -> None:
    assert text(source, a=1, list=[1, 2]) == expected


def test_a_value_is_not_a_template(text: Callable[..., str]) -> None:
    assert text("{{ value }}\n", value="{{ 1 + 1 }}") == "{{ 1 + 1 }}\n"


def test_an_undefined_variable_is_an_error(text: Callable[..., str]) -> None:
    with pytest.raises(Exception, match="'misspelt' is undefined"):
        text("{{ misspelt }}\n")


def test_the_header_names_the_inventory_and_the_template(write: Callable[[str, str], Path]) -> None:
    template = write("a.conf.j2", "{{ ansible_managed | comment }}\n")
    assert render(Templar(DataLoader()), template, {}) == (
        f"#\n# Ansible managed: edits are overwritten, edit the inventory.\n# Template: {template}\n#\n"
    )


def test_the_header_names_a_template_of_the_project_by_its_path_in_it(
    write: Callable[[str, str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendering, "PROJECT", tmp_path)
    template = write("roles/nginx/templates/etc/a.conf.j2", "{{ ansible_managed }}")
    assert render(Templar(DataLoader()), template, {}).endswith("\nTemplate: roles/nginx/templates/etc/a.conf.j2")


def test_rendering_leaves_the_variables_as_they_were(text: Callable[..., str]) -> None:
    variables = {"a": 1}
    text("{% set a = 2 %}{{ a }}", **variables)
    assert variables == {"a": 1}


# paths


@pytest.mark.parametrize(
    ("path", "each", "expected"),
    [
        ("/etc/a.conf", {}, [("/etc/a.conf", {})]),
        ("/etc/a.conf", {"site": SITES}, [("/etc/a.conf", {})]),
        ("/etc/{site}.conf", {"site": SITES}, [(f"/etc/{site['name']}.conf", {"site": site}) for site in SITES]),
        ("/etc/{site}/{site}.conf", {"site": SITES[:1]}, [("/etc/blog/blog.conf", {"site": SITES[0]})]),
        ("/etc/{site}.conf", {"site": []}, []),
        ("/etc/{pool}.conf", {"site": SITES, "pool": [{"name": "p"}]}, [("/etc/p.conf", {"pool": {"name": "p"}})]),
    ],
    ids=["no word", "another word", "items", "twice", "no items", "two lists"],
)
def test_a_path_stands_for_one_per_item(path: str, each: dict[str, Any], expected: list[Any]) -> None:
    assert expand(path, each) == expected


# a tree


def test_paths_mirror_the_hosts(write, tree) -> None:
    write("etc/nginx/nginx.conf.j2", "a")
    write("etc/nginx/servers/{site}.conf.j2", "{{ site.port }}")
    write("usr/share/.hidden.html.j2", "b")
    files, _ = tree({"site": SITES})
    assert {path: file["content"] for path, file in files.items()} == {
        "/etc/nginx/nginx.conf": "a",
        "/etc/nginx/servers/blog.conf": "80",
        "/etc/nginx/servers/shop.conf": "81",
        "/usr/share/.hidden.html": "b",
    }


def test_other_files_than_templates_are_ignored(write, tree) -> None:
    write("etc/README.md", "x")
    assert tree()[0] == {}


@pytest.mark.parametrize(
    ("exclude", "left"),
    [
        ([], {"/etc/a.conf", "/etc/systemd/system/a.service.d/b.conf"}),
        (["/etc/systemd/*"], {"/etc/a.conf"}),
        (["*.conf"], set()),
        (["/etc/a"], {"/etc/a.conf", "/etc/systemd/system/a.service.d/b.conf"}),
    ],
)
def test_paths_that_match_a_pattern_are_left_out(write, tree, exclude: list[str], left: set[str]) -> None:
    write("etc/a.conf.j2", "a")
    write("etc/systemd/system/a.service.d/b.conf.j2", "b")
    assert tree(exclude=exclude)[0].keys() == left


def test_excluded_templates_are_not_rendered(write, tree) -> None:
    write("etc/a.conf.j2", "{{ only_with_systemd }}")
    assert tree(exclude=["/etc/*"])[0] == {}


def test_a_mode_is_that_of_the_first_pattern_that_matches(write, tree) -> None:
    for name in ("etc/a.conf", "etc/key.pem", "usr/bin/a"):
        write(f"{name}.j2", "")
    files, _ = tree(modes={"*.pem": "0600", "/usr/bin/*": "0755", "/etc/*": "0640"}, groups={"/etc/key.*": "www-data"})
    assert {path: file["mode"] for path, file in files.items()} == {
        "/etc/a.conf": "0640",
        "/etc/key.pem": "0600",
        "/usr/bin/a": "0755",
    }
    assert [(path, file["group"]) for path, file in files.items() if "group" in file] == [("/etc/key.pem", "www-data")]


def test_a_mode_is_0644_if_none_is_asked_for(write, tree) -> None:
    write("etc/a.conf.j2", "")
    assert tree()[0]["/etc/a.conf"]["mode"] == "0644"


# its hash


@pytest.fixture
def two(write) -> None:
    write("etc/a.conf.j2", "{{ a }}")
    write("etc/b.conf.j2", "b")


def test_the_hash_is_twelve_hex_digits(two: None, tree) -> None:
    _, name = tree(a=1)
    assert len(name) == 12
    assert int(name, 16)


def test_the_same_tree_has_the_same_hash(two: None, tree) -> None:
    assert tree(a=1)[1] == tree(a=1, unused=2)[1]


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "etc/b.conf.j2").write_text("other"),
        lambda folder: (folder / "etc/b.conf.j2").rename(folder / "etc/c.conf.j2"),
        lambda folder: (folder / "etc/b.conf.j2").unlink(),
        lambda folder: (folder / "etc/c.conf.j2").touch(),
    ],
    ids=["content", "path", "gone", "new"],
)
def test_a_changed_file_changes_the_hash(two: None, tree, tmp_path: Path, change: Callable[[Path], object]) -> None:
    before = tree(a=1)[1]
    change(tmp_path)
    assert tree(a=1)[1] != before


def test_a_changed_variable_changes_the_hash(two: None, tree) -> None:
    assert tree(a=1)[1] != tree(a=2)[1]


def test_a_changed_mode_changes_the_hash(two: None, tree) -> None:
    assert tree(a=1)[1] != tree(a=1, modes={"*": "0600"})[1]


def test_the_hash_replaces_the_variable_in_templates(write, tree) -> None:
    write("etc/a.conf.j2", "return 200 {{ config_tree_hash }};\nagain {{ config_tree_hash }}\n")
    write("etc/b.conf.j2", "{{ config_tree_hash }}")
    files, name = tree()
    assert files["/etc/a.conf"]["content"] == f"return 200 {name};\nagain {name}\n"
    assert files["/etc/b.conf"]["content"] == name
