"""Which apps answer under which names, and below which paths."""

from __future__ import annotations

from typing import Any

from plugin_utils.server_blocks import server_blocks


def app(name: str, server_names: list[str], urls: list[str] | None = None, https: bool = True) -> dict[str, Any]:
    return {"name": name, "server_names": server_names, "urls": urls or [], "redirects": [], "https": https}


def test_redirects_are_a_block_that_leads_to_the_apps_first_name() -> None:
    led = {**app("blog", ["blog.lan", "b.lan"]), "redirects": ["www.blog.lan"]}
    first, second = server_blocks([led])
    assert (first["name"], first["server_names"], first["to"], first["places"]) == (
        "blog.redirects", ["www.blog.lan"], "blog.lan", [],
    )  # fmt: skip
    assert second["server_names"] == ["blog.lan", "b.lan"]


def summary(*apps: dict[str, Any]) -> list[tuple[str, list[str], dict[str, str]]]:
    return [
        (block["name"], block["server_names"], {place["path"]: place["name"] for place in block["places"]})
        for block in server_blocks(list(apps))
    ]


def test_an_app_with_names_of_its_own_has_one_block() -> None:
    assert summary(app("blog", ["Blog.lan", "fd00::20"]), app("wiki", ["wiki.lan"])) == [
        ("blog", ["Blog.lan", "fd00::20"], {"": "blog"}),
        ("wiki", ["wiki.lan"], {"": "wiki"}),
    ]


def test_names_with_the_same_apps_share_a_block() -> None:
    apps = [app(name, [], [f"a.lan/{name}", f"B.lan/{name}", f"*.lan/{name}"]) for name in ("blog", "wiki")]
    assert summary(*apps) == [("@a.lan", ["a.lan", "B.lan", "*.lan"], {"/blog": "blog", "/wiki": "wiki"})]
    assert summary(app("blog", [], ["*.lan/blog"]))[0][0] == "@_.lan"


def test_an_app_of_which_one_name_is_shared_has_two_blocks() -> None:
    blog, wiki = app("blog", ["blog.lan", "intranet.lan"]), app("wiki", [], ["INTRANET.lan/wiki"])
    assert summary(blog, wiki) == [
        ("blog", ["blog.lan"], {"": "blog"}),
        ("@intranet.lan", ["intranet.lan"], {"": "blog", "/wiki": "wiki"}),
    ]


def test_an_app_may_be_at_several_paths_of_a_name() -> None:
    assert summary(app("wiki", [], ["a.lan/wiki", "a.lan/docs/wiki"])) == [
        ("@a.lan", ["a.lan"], {"/wiki": "wiki", "/docs/wiki": "wiki"})
    ]


def test_a_block_is_served_over_https_if_all_its_apps_are() -> None:
    apps = [app("blog", ["a.lan"], https=False), app("wiki", ["b.lan"], ["a.lan/wiki"])]
    assert [block["https"] for block in server_blocks(apps)] == [False, True]
