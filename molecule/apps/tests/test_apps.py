"""Apps that others wrote do here what they do by hand, on both Debian releases, and keep what they were given."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
import requests
from browser import Site
from faults import Play
from testinfra.host import Host


class Kept(NamedTuple):
    """What an app is given, and the text in which that is found again."""

    give: Callable[[Site], object]
    tell: Callable[[Site], str]
    words: str


def register_and_post(site: Site) -> None:
    login = {"username": "ann", "password": "correct horse"}
    site.form("/auth/register", login)
    site.form("/auth/login", login)
    site.form("/create", {"title": "A first post", "body": "Body"})


ANN = ("ann", "correct horse")
BREAD = {
    "t": "Transaction", "date": "2026-01-02", "flag": "*", "payee": "Baker", "narration": "Bread", "tags": [],
    "links": [], "meta": {}, "postings": [{"account": "Assets:Cash", "amount": "0 EUR"}],
}  # fmt: skip

KEPT = {
    "flaskr": Kept(register_and_post, lambda site: site.get("/").text, "A first post"),
    "isso": Kept(
        lambda site: site.post("/new?uri=/post/", json={"title": "Post", "text": "*Well* said"}),
        lambda site: site.get("/?uri=/post/").json()["replies"][0]["text"],
        "<em>Well</em> said",
    ),
    "ihatemoney": Kept(
        lambda site: site.post(
            "/api/projects", data={"name": "Trip", "id": ANN[0], "password": ANN[1], "contact_email": "ann@example.org"}
        ),
        lambda site: site.get(f"/api/projects/{ANN[0]}", auth=ANN).text,
        '"Trip"',
    ),
    "otterwiki": Kept(
        lambda site: site.form("/Otters/edit", {"content": "They *swim*", "commit": "new"}, "/Otters/save"),
        lambda site: site.get("/Otters").text,
        "They <em>swim</em>",
    ),
    "fava": Kept(
        lambda site: site.put("/beancount/api/add_entries", json={"entries": [BREAD]}),
        lambda site: site.get("/beancount/download-journal/").text,
        '"Baker" "Bread"',
    ),
    "sqlite-web": Kept(
        lambda site: site.form("/query/", {"sql": "create table otters as select 'Lutra' as name"}),
        lambda site: site.get("/otters/content/").text,
        "Lutra",
    ),
}


@pytest.fixture(scope="module")
def visit(address: str) -> Callable[[str], Site]:
    """``visit(app)`` opens an app in a browser that has no cookies yet."""
    return lambda app: Site(app, address)


def live(host: Host) -> dict[str, str]:
    """The release of each app."""
    return {app: host.check_output("readlink /srv/%s/current", app) for app in KEPT}


@pytest.fixture(scope="module")
def deployed(host: Host, visit) -> Iterator[set[str]]:
    """The apps that a deploy has replaced, after each of them was given something."""
    for app, kept in KEPT.items():
        if kept.words not in tell(visit(app), kept):
            kept.give(visit(app))
    before = live(host)
    changed = {app: {"env": {"BEFORE": release}} for app, release in before.items()}
    play = Play("playbooks/deploy.yml", host, variables={"changed_apps": changed})
    assert play.wait() == 0, play.output
    yield {app for app, release in live(host).items() if release != before[app]}


def tell(site: Site, kept: Kept) -> str:
    """What an app tells; nothing where it was given nothing yet."""
    try:
        return kept.tell(site)
    except (requests.HTTPError, LookupError):
        return ""


@pytest.mark.parametrize(
    ("app", "url", "words"),
    [
        ("flaskr", "/static/style.css", "font-family"),
        ("isso", "/js/embed.min.js", "isso"),
        ("httpbin", "/", "swagger"),
        ("ihatemoney", "/", "Manage your shared"),
        ("otterwiki", "/Home", "Otter Wiki"),
        ("fava", "/", "Beancount"),
        ("sqlite-web", "/", "data.db"),
        ("dash", "/", "_dash-config"),
        ("dash", "/assets/page.css", "teal"),
        ("dash", "/_dash-layout", '"className":"page"'),
        ("dash", "/_dash-dependencies", "greeting.children"),
        ("uv", "/", "shelf 1.4.0"),
        ("poetry", "/", "Connection refused"),
        ("headers", "/", '"abs":7'),
    ],
)
def test_app_serves_its_pages(visit, app: str, url: str, words: str) -> None:
    assert words in visit(app).get(url).text


def test_dash_calls_back(visit) -> None:
    site = visit("dash")
    scripts = re.findall(r'src="(/_dash-component-suites/[^"]+)"', site.get("/").text)
    assert scripts
    assert all("javascript" in site.get(script).headers["Content-Type"] for script in scripts)
    asked = {
        "output": "greeting.children",
        "outputs": {"id": "greeting", "property": "children"},
        "inputs": [{"id": "name", "property": "value", "value": "otter"}],
        "changedPropIds": ["name.value"],
    }
    assert site.post("/_dash-update-component", json=asked).json()["response"]["greeting"]["children"] == "Hello otter"


def test_httpbin_gets_a_body_in_chunks(visit) -> None:
    parts = [b"x" * 70_000, b"y" * 70_000]
    assert visit("httpbin").put("/put", data=iter(parts)).json()["data"] == b"".join(parts).decode()


def test_httpbin_answers_as_asked(visit) -> None:
    site = visit("httpbin")
    assert len(site.get("/bytes/50000?seed=1").content) == 50_000
    assert [json.loads(line)["id"] for line in site.get("/stream/20").iter_lines()] == list(range(20))
    part = site.get("/range/1024", headers={"Range": "bytes=100-199"})
    assert (part.status_code, len(part.content), part.headers["Content-Range"]) == (206, 100, "bytes 100-199/1024")
    packed = site.get("/gzip", stream=True)
    assert (packed.headers["Content-Encoding"], json.loads(gzip.decompress(packed.raw.read()))["gzipped"]) == (
        "gzip",
        True,
    )
    same = site.get("/status/304")
    assert (same.status_code, same.content) == (304, b"")


@pytest.mark.parametrize("app", KEPT)
def test_app_keeps_its_data_through_a_deploy(visit, deployed: set[str], app: str) -> None:
    assert app in deployed
    assert KEPT[app].words in KEPT[app].tell(visit(app))
