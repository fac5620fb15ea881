"""Which site is served with which certificate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from plugin_utils import https
from test_authority import PASSPHRASE, create
from test_certificates import LEAF, OTHER, key_of, pem
from test_fleet_checks import FLEET, fleet


def site(name: str, *server_names: str, https: bool = True) -> dict[str, Any]:
    return {"name": name, "server_names": list(server_names), "urls": [], "redirects": [], "https": https}


SERVED = [
    site("blog", "Blog.example.lan"),
    site("wiki", "a.wiki.example.lan", "*.wiki.example.lan"),
    site("deep", "b.a.wiki.example.lan"),
    site("both", "b.wiki.example.lan", "c.wiki.example.lan"),
    site("plain", "plain.example.lan", https=False),
    site("address", "10.0.0.5", "d.wiki.example.lan"),
    site("other", "10.0.0.6"),
]
GIVEN = {
    name: {"certificate": pem(*cert.cert_chain_pems).decode(), "key": f"/{name}.key"}
    for name, cert in {"b": OTHER, "a": LEAF}.items()
}


def test_a_site_is_served_with_the_first_certificate_that_covers_its_names() -> None:
    found = https.used(SERVED, GIVEN, {})
    assert [(one["name"], one["path"], one["sites"], one["has_address"]) for one in found] == [
        ("b", "tls/b.pem", ["blog"], False),
        ("a", "tls/a.pem", ["wiki", "both", "address"], True),
    ]
    assert found[0]["server_names"] == ["Blog.example.lan"]
    assert found[0]["key"] == "/b.key"


def test_what_no_given_certificate_covers_is_for_the_fleets_own_ca() -> None:
    names, permitted = ["10.0.0.6", "b.a.wiki.example.lan"], ["example.lan"]
    assert https.names_for_ca(SERVED, GIVEN, permitted) == names
    issued = {"id": "0123456789ab", "names": names}
    found = https.used(SERVED, GIVEN, issued, permitted)
    assert [(one["name"], one["sites"]) for one in found] == [
        ("b", ["blog"]), ("a", ["wiki", "both", "address"]), ("fleet", ["deep", "other"]),
    ]  # fmt: skip
    assert found[-1]["path"] == "/etc/flaskfleet/tls/0123456789ab.pem"


def test_what_is_left_is_for_the_acme_directory() -> None:
    """The fleet's own CA issues what it is for; each site that is left has a certificate of its own."""
    arguments: Any = (SERVED, GIVEN, {"id": "0123456789ab", "names": ["10.0.0.6"]}, ["10.0.0.0/8"], True)
    found = https.used(*arguments)
    assert [(one["name"], one["sites"]) for one in found][2:] == [("acme-deep", ["deep"]), ("fleet", ["other"])]
    assert https.names_for_ca(SERVED, GIVEN, ["10.0.0.0/8"], True) == ["10.0.0.6"]
    assert found[2]["path"] == "/var/lib/flaskfleet/acme/served/deep.pem"
    assert found[2]["includes"] == ["acme.conf", "/var/lib/flaskfleet/acme/served/deep[.]conf"]
    assert https.acme_sites(found) == {"deep": ["b.a.wiki.example.lan"]}


@pytest.mark.parametrize(
    ("served", "is_due"),
    [
        (None, True),
        ({}, True),
        ({"names": ["a.lan"], "directory": "https://ca/dir", "until": 99_999_999_999}, False),
        ({"names": ["a.lan"], "directory": "https://ca/dir", "until": 1}, True),
        ({"names": ["a.lan", "b.lan"], "directory": "https://ca/dir"}, True),
        ({"names": ["a.lan"], "directory": "https://other/dir"}, True),
    ],
)
def test_a_run_gets_what_a_host_lacks_of_the_acme_directory(served: dict[str, Any] | None, is_due: bool) -> None:
    recorded = {} if served is None else {"sites": {"a": {"served": served, "error": "rate limit"}}}
    assert https.acme_is_due(recorded, {"a": ["a.lan"]}, "https://ca/dir") is is_due


def test_nothing_is_due_without_sites_of_the_acme_directory() -> None:
    assert not https.acme_is_due({}, {}, "")


def test_a_certificate_that_no_site_needs_is_not_used() -> None:
    assert [one["name"] for one in https.used(SERVED[:1], GIVEN, {"id": "x", "names": ["y.lan"]})] == ["b"]
    assert https.used([], GIVEN, {}) == []


def problems_of(groups: dict[str, list[str]], **changed: dict[str, Any]) -> list[str]:
    return list(map(str, https.check_https(groups, fleet(**changed), str)))


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Any]]:
    """``certified(name)``: the variables of a host with a certificate for a name, of a CA that it trusts."""
    folder = tmp_path_factory.mktemp("certificates")
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(folder / "root.pem"))

    def variables(name: str) -> dict[str, Any]:
        cert = ca.issue_cert(name)
        texts = {"certificate": pem(*cert.cert_chain_pems).decode(), "key": key_of(cert).decode()}
        return {"nginx_certificates": {"lan": texts}, "base_ca_certificates": [str(folder / "root.pem")]}

    return variables


def test_names_are_checked_where_clients_ask(certified: Callable[..., dict[str, Any]]) -> None:
    covered, uncovered = certified("blog.lan"), certified("blog.example.lan")
    alone = {"app_servers": FLEET["app_servers"]}
    words = "flask_apps.blog.server_names: ['blog.lan'] no certificate of nginx_certificates covers all of them"
    assert problems_of(FLEET, lb1=covered, lb2=covered, app1=uncovered) == []
    assert [text[: len(words)] for text in problems_of(FLEET, lb1=covered, lb2=uncovered)] == [words]
    assert problems_of(alone, app1=covered, lb1=uncovered) == []
    assert [text[: len(words)] for text in problems_of(alone, app1=uncovered)] == [words]


def test_http3_needs_https_where_clients_ask(certified: Callable[..., dict[str, Any]]) -> None:
    wanted = {"nginx_http3": True}
    words = "nginx_http3: True needs https; give nginx_certificates, tls_ca_permitted or nginx_acme_directory"
    assert problems_of(FLEET, lb1=wanted, app1=wanted) == [f"{words}, or leave it false"]
    assert problems_of(FLEET, lb1={**wanted, **certified("blog.lan")}, lb2=certified("blog.lan")) == []


INNER = ["flaskfleet.internal"]


def test_names_that_no_certificate_covers_are_the_authoritys(
    certified: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    create(tmp_path / "ca", permitted=["lan", *INNER])
    given = {"inventory_dir": str(tmp_path), "tls_ca_permitted": ["lan"], "tls_ca_passphrase": PASSPHRASE}
    lan = {name: {**given, **certified("blog.example.lan")} for name in ("lb1", "lb2")}
    assert problems_of(FLEET, **lan) == []
    wrong = problems_of(FLEET, **{**lan, "lb2": {**lan["lb2"], "tls_ca_passphrase": "other"}})
    assert [text.replace(f"{tmp_path}/", "") for text in wrong] == [
        "tls_ca_permitted: ca/ca.key can't be decrypted; correct tls_ca_passphrase"
    ]
    create(tmp_path / "ca", permitted=["example.org"])
    refused = [
        text.partition(" is none that the fleet's CA may issue a certificate for; give")[0]
        for text in problems_of(FLEET, lb1=lan["lb1"])
    ]
    assert refused == [
        "server_names: 'blog.lan'",
        "server_names: 'app-servers.flaskfleet.internal'",
        "server_names: 'load-balancers.flaskfleet.internal'",
    ]


def test_all_hosts_have_one_ca(tmp_path: Path) -> None:
    given = {"tls_ca_permitted": ["lan"], "tls_ca_passphrase": PASSPHRASE}
    one, other = ({**given, "inventory_dir": str(tmp_path / name)} for name in ("one", "other"))
    for host in (one, other):
        Path(host["inventory_dir"]).mkdir()
        create(Path(host["inventory_dir"]) / "ca", permitted=["lan", *INNER])
    assert problems_of(FLEET, lb1=one, app1=one) == []
    (problem,) = problems_of(FLEET, lb1=one, app1=other)
    assert problem.endswith("have different CAs; put the same files into the folder ca of each inventory")


def test_a_key_beside_the_cas_certificate_is_not_copied_to_hosts(tmp_path: Path) -> None:
    create(tmp_path / "ca", permitted=["lan", *INNER])
    given = {"inventory_dir": str(tmp_path), "tls_ca_permitted": ["lan"], "tls_ca_passphrase": PASSPHRASE}
    assert problems_of(FLEET, lb1=given) == []
    with (tmp_path / "ca/ca.pem").open("ab") as file:
        file.write((tmp_path / "ca/ca.key").read_bytes())
    (problem,) = problems_of(FLEET, lb1=given)
    assert problem.endswith(
        "ca.pem' has a private key in it, and would be copied to every host; leave the certificate alone in it"
    )


@pytest.mark.parametrize(("days", "words"), [(400, []), (300, ["replace it before, see roles/tls/README.md"])])
def test_the_end_of_the_ca_is_told_a_year_before(tmp_path: Path, days: int, words: list[str]) -> None:
    create(tmp_path / "ca", permitted=["lan"], days=days)
    hosts = fleet(lb1={"inventory_dir": str(tmp_path), "tls_ca_permitted": ["lan"]})
    assert [text.partition(": ")[2] for text in https.remarks(FLEET, hosts)] == words


def test_tls_with_app_servers_needs_the_fleets_own_ca() -> None:
    words = "nginx_upstream_tls: True needs the fleet's own CA, and app1 has no tls_ca_permitted"
    problems = problems_of(FLEET, lb2={"nginx_upstream_tls": True})
    assert [text.partition(", and ")[2].partition(" ")[0] for text in problems] == ["lb1", "lb2", "app1", "app2"]
    assert problems[2].startswith(words)


def test_a_path_below_a_name_leaves_the_acme_certificate_of_its_app_as_it_is() -> None:
    """Or the app would be served over http until the directory has issued another one."""
    blog, wiki = site("blog", "blog.lan", "b.lan"), site("wiki")
    alone = https.used([blog], {}, {}, has_acme=True)
    together = https.used([blog, {**wiki, "urls": ["blog.lan/wiki", "tools.lan/wiki"]}], {}, {}, has_acme=True)
    assert https.acme_sites(alone) == {"blog": ["b.lan", "blog.lan"]}
    assert https.acme_sites(together) == {"blog": ["b.lan", "blog.lan"], "@tools.lan": ["tools.lan"]}
    assert [one["sites"] for one in together] == [["@blog.lan", "blog"], ["@tools.lan"]]
