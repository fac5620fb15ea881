"""What roles write on hosts with IPv6, without it, and with addresses of both families."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.modules.preflight_host import has_upstream_tls
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import filter_loader, init_plugin_loader
from ansible.template import Templar, trust_as_template
from plugin_utils.https import used
from plugin_utils.rendering import PROJECT, render_tree

init_plugin_loader()
filter_loader.add_directory(str(PROJECT / "plugins/filter"))
NAMES = ["blog.example.lan", "fd00::20"]


def trusted(value: Any) -> Any:
    """A role's own variable, whose expressions Ansible evaluates."""
    if isinstance(value, dict):
        return {name: trusted(one) for name, one in value.items()}
    if isinstance(value, list):
        return [trusted(one) for one in value]
    return trust_as_template(value) if isinstance(value, str) else value


# Of an app, for nginx.
DEFAULTS: dict[str, Any] = {
    "urls": [], "redirects": [], "access": {}, "max_body_mb": None, "https": True, "read_timeout_seconds": 40,
}  # fmt: skip


def evaluator(role: str, facts: dict[str, Any], **given: Any) -> tuple[Any, dict[str, Any]]:
    """What templates a role's expressions, and the role's variables."""
    folder = PROJECT / "roles" / role
    variables: dict[str, Any] = {"ansible_facts": facts}
    for part in ("defaults", "vars"):
        variables |= trusted(yaml.safe_load((folder / part / "main.yml").read_text()))
    variables |= given
    return Templar(DataLoader()).copy_with_new_env(available_variables=variables), variables


def rendered(role: str, facts: dict[str, Any], **given: Any) -> dict[str, str]:
    """The files of a role, by their paths on the host."""
    templar, variables = evaluator(role, facts, **given)
    names = {
        "site": "__nginx_site_blocks",
        "balanced": "__nginx_balanced_blocks",
        "upstream": "nginx_balanced",
        "certificate": "__nginx_certificates",
        "restricted": "__nginx_restricted",
    }
    each = {word: templar.template(variables[name]) for word, name in names.items() if name in variables}
    excluded = templar.template(variables.get(f"__{role}_excluded", []))
    files, _ = render_tree(templar, PROJECT / "roles" / role / "templates", variables, each, excluded, {}, {})
    return {file["path"]: file["content"] for file in files}


# nginx


def nginx(has_ipv6: bool, version: str = "13") -> dict[str, str]:
    """The files of a balancer whose app servers have IPv6 addresses."""
    facts = {"distribution": "Debian", "distribution_version": version, "service_mgr": "systemd", "has_ipv6": has_ipv6}
    balanced = {
        "name": "blog", "server_names": NAMES, **DEFAULTS,
        "servers": [{"name": "app1", "address": "[fd00::1]:80", "weight": 1}],
    }  # fmt: skip
    site = {
        "name": "wiki", "server_names": ["fd00::30", "wiki.example.lan"], **DEFAULTS,
        "root": "/srv/wiki", "socket": "/srv/wiki/current/run/uwsgi.sock", "static_prefixes": [], "shared_urls": [],
        "directives": [],
    }  # fmt: skip
    certificate = {
        "name": "lan", "path": "tls/lan.pem", "sites": ["blog"], "server_names": NAMES, "urls": [],
        "has_address": True, "certificate": "-----BEGIN", "key": "-----BEGIN", "includes": ["tls/lan.conf"],
    }  # fmt: skip
    return rendered(
        "nginx", facts, nginx_balanced=[balanced], nginx_sites=[site], __nginx_certificates=[certificate],
        nginx_trusted_proxies=["fd00:9::/64"],
    )  # fmt: skip


def listens(files: dict[str, str]) -> dict[str, list[str]]:
    """The directives ``listen`` for ports, by file."""
    found = {path: re.findall(r"^ *listen (?!unix:)(.+);$", text, re.MULTILINE) for path, text in files.items()}
    return {path.rpartition("/")[2]: told for path, told in found.items() if told}


@pytest.mark.parametrize(("version", "http2"), [("13", ""), ("12", " http2")])
def test_nginx_listens_on_both_families_with_the_same_parameters(version: str, http2: str) -> None:
    told = listens(nginx(True, version))
    assert told == {
        "nginx.conf": ["80 default_server", "[::]:80 default_server"],
        "tls.conf": [f"443 ssl{http2} default_server", f"[::]:443 ssl{http2} default_server"],
        "blog.conf": ["80", "[::]:80"],
        "wiki.conf": ["80", "[::]:80"],
        "lan.conf": [f"443 ssl{http2}", f"[::]:443 ssl{http2}"],
    }  # fmt: skip


def test_nginx_does_not_listen_on_a_family_that_the_kernel_lacks() -> None:
    assert listens(nginx(False)) == {
        "nginx.conf": ["80 default_server"],
        "tls.conf": ["443 ssl default_server"],
        "blog.conf": ["80"],
        "wiki.conf": ["80"],
        "lan.conf": ["443 ssl"],
    }


def test_nginx_knows_the_certificate_of_an_app_that_waits_for_its_first_one() -> None:
    """Before that nothing includes tls/acme-wiki.conf, and a variable that nobody sets is an error of ``nginx -t``."""
    facts = {"distribution": "Debian", "distribution_version": "13", "service_mgr": "systemd", "has_ipv6": True}
    names = {
        "server_names": ["wiki.example.lan"],
        "urls": [],
        "redirects": [],
        "access": {},
        "max_body_mb": None,
        "https": True,
        "read_timeout_seconds": 40,
    }
    site = {
        "name": "wiki", "root": "/srv/wiki", "socket": "/srv/wiki/current/run/uwsgi.sock", "static_prefixes": [],
        "shared_urls": [], "directives": [], **names,
    }  # fmt: skip
    balanced = {"name": "wiki", "servers": [{"name": "app1", "address": "10.0.0.1:80", "weight": 1}], **names}
    for served in ({"nginx_sites": [site]}, {"nginx_balanced": [balanced]}):
        certificates = used(next(iter(served.values())), {}, {}, has_acme=True)
        folder = str(PROJECT / "roles/nginx")
        files = rendered("nginx", facts, role_path=folder, __nginx_certificates=certificates, **served)
        assert '    "" $certificate;\n' in files["/etc/nginx/tls.conf"]
        assert "    set $certificate acme-wiki;\n    include acme.conf;\n" in files["/etc/nginx/servers/wiki.conf"]


def test_a_name_is_no_parameter_of_a_map_and_no_tab() -> None:
    """nginx takes a backslash and a t for a tab, and ``default`` for its own."""
    served = {"sites": ["blog"], "server_names": ["testapp.example.lan", "default"], "urls": [], "has_address": False}
    certificate = {"name": "lan", "path": "tls/lan.pem", "certificate": "-----BEGIN", "key": "-----BEGIN", **served}
    facts = {"distribution": "Debian", "distribution_version": "13", "service_mgr": "systemd", "has_ipv6": True}
    names = rendered("nginx", facts, __nginx_certificates=[certificate])["/etc/nginx/tls.conf"]
    assert "\n    testapp.example.lan lan;\n    \\default lan;\n" in names


def test_addresses_are_in_brackets_where_nginx_wants_them() -> None:
    files = nginx(True)
    assert "server_name blog.example.lan [fd00::20];" in files["/etc/nginx/servers/blog.conf"]
    assert "server_name [fd00::30] wiki.example.lan;" in files["/etc/nginx/servers/wiki.conf"]
    assert " server [fd00::1]:80 weight=1 " in files["/etc/nginx/upstreams/blog.conf"]
    assert " set_real_ip_from fd00:9::/64;" in files["/etc/nginx/nginx.conf"]
    assert " fd00:9::/64 1;" in files["/etc/nginx/nginx.conf"]


def upstreams(**given: Any) -> dict[str, Any]:
    """The variables of a balancer with two apps."""
    server = {"name": "app1", "address": "10.0.0.1:80", "secure_address": "10.0.0.1:443", "weight": 1}
    app = {
        "server_names": ["blog.lan"],
        "urls": [],
        "redirects": [],
        "access": {},
        "max_body_mb": None,
        "read_timeout_seconds": 40,
        "https": True,
    }
    balanced = [{**app, "name": "blog", "servers": [server]}, {**app, "name": "wiki", "servers": [server]}]
    issued = {"id": "0123456789ab", "names": []}
    return {"nginx_balanced": balanced, "nginx_issued": issued, "nginx_upstream_tls": True, **given}


FACTS_OF_BALANCER = {"distribution": "Debian", "distribution_version": "13", "service_mgr": "systemd", "has_ipv6": True}


@pytest.mark.parametrize("is_on", [True, False])
def test_a_host_tells_whether_it_speaks_tls_with_app_servers(tmp_path: Path, is_on: bool) -> None:
    """By the file that the role writes there."""
    (tmp_path / "etc/nginx").mkdir(parents=True)
    assert not has_upstream_tls(tmp_path)
    given = upstreams(nginx_upstream_tls=is_on)
    files = rendered("nginx", FACTS_OF_BALANCER, **given)
    (tmp_path / "etc/nginx/tls.conf").write_text(files.get("/etc/nginx/tls.conf", ""))
    assert has_upstream_tls(tmp_path) == is_on


@pytest.mark.parametrize(
    ("wanted", "is_there", "is_asked"), [(True, False, True), (True, True, False), (False, True, False)]
)
def test_app_servers_are_asked_before_a_balancer_begins_to_speak_tls(
    tmp_path: Path, wanted: bool, is_there: bool, is_asked: bool
) -> None:
    first, second = yaml.safe_load((PROJECT / "roles/nginx/tasks/configure.yml").read_text())
    for name in ("ca", "old"):
        (tmp_path / f"{name}.pem").write_text(f"the CA {name}\n")
    given = upstreams(nginx_upstream_tls=wanted, nginx_ca_certificates=[f"{tmp_path}/ca.pem", f"{tmp_path}/old.pem"])
    templar, _ = evaluator("nginx", {**FACTS_OF_BALANCER, "has_upstream_tls": is_there}, **given)
    assert "config_tree" in second
    assert templar.template(trusted(f"{{{{ {first['when']} }}}}")) is is_asked
    assert templar.template(trusted(first["tls_upstreams"])) == {
        "servers": [{"name": "app1", "address": "10.0.0.1:80", "secure_address": "10.0.0.1:443", "weight": 1}],
        "server_name": "app-servers.flaskfleet.internal",
        "certificate": "/etc/flaskfleet/tls/0123456789ab.pem",
        "ca": "the CA ca\nthe CA old",
    }


HTTP3 = {
    "name": "lan",
    "path": "tls/lan.pem",
    "includes": ["tls/lan.conf"],
    "certificate": "-----BEGIN",
    "key": "-----BEGIN",
    "has_address": False,
}


def http3(sites: list[str], **given: Any) -> dict[str, str]:
    """The files of a balancer of the app blog that is to offer HTTP/3, if it serves ``sites`` by https."""
    facts = {"distribution": "Debian", "distribution_version": "13", "service_mgr": "systemd", "has_ipv6": True}
    blog = {
        "name": "blog", "server_names": ["blog.lan"], **DEFAULTS,
        "servers": [{"name": "app1", "address": "10.0.0.1:80", "weight": 1}],
    }  # fmt: skip
    wiki = {
        "name": "wiki", "server_names": ["wiki.lan"], **DEFAULTS,
        "root": "/srv/wiki", "socket": "/srv/wiki/current/run/uwsgi.sock", "static_prefixes": ["/static"],
        "shared_urls": ["/static/media"], "directives": ["add_header X-Frame-Options DENY"],
    }  # fmt: skip
    served = [HTTP3 | {"sites": sites, "server_names": sites}] if sites else []
    wanted = {"nginx_http3": True, "nginx_balanced": [blog], "nginx_sites": [wiki], "__nginx_certificates": served}
    return rendered("nginx", facts, **{**wanted, **given})


def quic(files: dict[str, str]) -> dict[str, list[str]]:
    """The directives ``listen`` for HTTP/3, by file."""
    told = {name: [one for one in lines if " quic" in one] for name, lines in listens(files).items()}
    return {name: lines for name, lines in told.items() if lines}


def test_http3_shares_the_port_of_https_among_workers_once_per_address() -> None:
    assert quic(http3(["blog"], nginx_https_port=8443)) == {
        "tls.conf": ["8443 quic reuseport default_server", "[::]:8443 quic reuseport default_server"],
        "lan.conf": ["8443 quic", "[::]:8443 quic"],
    }


@pytest.mark.parametrize(
    ("sites", "given"), [([], {}), (["blog"], {"nginx_http3": False})], ids=["without https", "not wanted"]
)
def test_there_is_no_http3(sites: list[str], given: dict[str, Any]) -> None:
    files = http3(sites, **given)
    assert quic(files) == {}
    assert not [text for text in files.values() if "alt_svc" in text or "http3" in text]


def test_every_location_offers_http3() -> None:
    files = http3(["blog", "wiki"])
    assert "\n    include http3.conf;\n" in files["/etc/nginx/nginx.conf"]
    assert "\nadd_header Alt-Svc $alt_svc always;\n" in files["/etc/nginx/http3.conf"]
    for name in ("blog", "wiki"):
        included = files[f"/etc/nginx/servers/{name}.conf"].replace(
            "include maintenance.conf;", files["/etc/nginx/maintenance.conf"]
        )
        locations = included.split("    location ")[1:]
        own = [one.partition("\n    }")[0] for one in locations if "add_header" in one]
        assert own and not [one for one in own if "add_header Alt-Svc $alt_svc always;" not in one]


@pytest.mark.parametrize(("port", "told"), [(443, ""), (8443, ":8443")])
def test_http3_is_offered_on_its_port_and_to_clients_of_https_alone(port: int, told: str) -> None:
    text = http3(["blog"], nginx_https_port=port)["/etc/nginx/http3.conf"]
    assert f'map $https $alt_svc {{\n    on \'h3=":{port}"; ma=86400\';\n    default "";\n}}' in text
    assert f'\n    h3 "{told}";\n' in text


# several apps under one name


def shared(rules: dict[str, Any] | None = None, **options: dict[str, Any]) -> dict[str, str]:
    """The files of a balancer, an app server and a single server, where wiki shares a name with the app blog.

    :param rules: access rules by app. ``options``: what else an app has.
    """
    facts = {"distribution": "Debian", "distribution_version": "13", "service_mgr": "systemd", "has_ipv6": False}
    names: dict[str, Any] = {
        "blog": {"server_names": ["intranet.lan", "blog.lan"], "urls": []},
        "wiki": {"server_names": [], "urls": ["intranet.lan/wi.ki"]},
        "docs": {"server_names": ["docs.lan"], "urls": ["tools.lan/a/docs"]},
    }
    hosts = {"blog": ["app1", "app2"], "wiki": ["app1", "app3"], "docs": ["app2"]}
    common = {name: {"name": name, **DEFAULTS, **those} for name, those in names.items()}
    for name, app in common.items():
        app |= {"access": (rules or {}).get(name, {}), **options.get(name, {})}
    folders = {"static_prefixes": ["/static"], "shared_urls": ["/static/media"], "directives": []}
    sites = [{**app, "root": f"/srv/{name}", "socket": f"/srv/{name}/s", **folders} for name, app in common.items()]
    balanced = [
        {**app, "servers": [{"name": one, "address": f"{one}:80", "weight": 1} for one in hosts[name]]}
        for name, app in common.items()
    ]
    hosts_of = {
        "app": {"nginx_sites": sites, "nginx_balancer_addresses": ["10.0.0.9"]},
        "single": {"nginx_sites": sites},
        "lb": {"nginx_balanced": balanced},
    }
    return {
        f"{host}{path}": text
        for host, given in hosts_of.items()
        for path, text in rendered("nginx", facts, **given).items()
    }


def test_a_name_with_paths_has_a_server_block_of_its_own() -> None:
    files = shared()
    for host in ("app", "lb"):
        folder = f"{host}/etc/nginx/servers/"
        blocks = {path.removeprefix(folder): text for path, text in files.items() if path.startswith(folder)}
        names = {path: re.findall(r"server_name (.*);", text) for path, text in blocks.items()}
        assert names == {
            "blog.conf": ["blog.lan"],
            "docs.conf": ["docs.lan"],
            "@intranet.lan.conf": ["intranet.lan"],
            "@tools.lan.conf": ["tools.lan"],
        }
        assert "location / {\n        return 404;" in blocks["@tools.lan.conf"]
        assert "return 404" not in blocks["@intranet.lan.conf"]
        assert "\n    access_log /var/log/nginx/blog.access.log site;" in blocks["@intranet.lan.conf"]
        assert "\n        access_log /var/log/nginx/wiki.access.log site;" in blocks["@intranet.lan.conf"]


def test_an_app_at_a_path_is_told_it_and_knows_what_is_below_as_its_own() -> None:
    files = shared()
    text = files["app/etc/nginx/servers/@intranet.lan.conf"]
    locations = {one.split()[0]: one for one in re.split(r"\n    location ", text)[1:]}
    assert {"/", "@blog", "/static/", "/wi.ki/", "@wiki/wi.ki", "/wi.ki/static/", "/wi.ki/static/media/"} < {*locations}
    stripped = '        rewrite "(?s)^/wi\\.ki(/.*)$" $1 break;\n'
    assert [name for name, one in locations.items() if stripped in one] == [
        "/wi.ki/", "/wi.ki/static/media/", "/wi.ki/static/",
    ]  # fmt: skip
    told = "uwsgi_param SCRIPT_NAME /wi.ki;"
    assert [name for name, one in locations.items() if told in one] == ["/wi.ki/", "@wiki/wi.ki"]
    assert "SCRIPT_NAME" not in files["app/etc/nginx/servers/blog.conf"] + files["app/etc/nginx/app_uwsgi_params"]
    assert "@wiki/wi.ki;" in locations["/wi.ki/static/"]


def test_a_balancer_knows_the_upstream_of_each_app_whoever_is_drained() -> None:
    files = shared()
    block = files["lb/etc/nginx/servers/@intranet.lan.conf"]
    assert re.findall(r"drain/(\S+)\)", block) == ["app1", "app2", "app3"]
    assert re.findall(r"set \$app (.*);", block) == ["blog", "wiki"]
    pools = re.search(r"map \$app\$out \$pool {\n(.*?)}", files["lb/etc/nginx/nginx.conf"], re.DOTALL)
    assert pools
    found = dict(line.strip(" ;").split() for line in pools[1].splitlines() if line.strip())
    assert found["default"] == "$app"
    assert found["wiki.app1.app2"] == "wiki.app1" and found["blog.app1.app3"] == "blog.app1"
    assert not {"wiki.app1.app3", "docs.app2", "wiki.app2"} & {*found}  # nobody is left, or nobody is out
    defined = {
        one for path, text in files.items() if "/upstreams/" in path for one in re.findall(r"upstream (\S+)", text)
    }
    assert {*found.values()} - {"$app"} | {"blog", "wiki", "docs"} == defined


def test_an_upload_may_be_as_large_as_the_app_says_on_the_way_to_it() -> None:
    files = shared(wiki={"max_body_mb": 300})
    for host in ("app", "single", "lb"):
        text = files[f"{host}/etc/nginx/servers/@intranet.lan.conf"]
        blog, wiki = re.split(r"\n    location /wi.ki/ {", text)
        assert "client_max_body_size" not in blog and "client_max_body_size 300M;" in wiki


def test_the_host_that_clients_reach_shows_maintenance_pages() -> None:
    files = shared()
    flag = "if (-f /var/lib/flaskfleet/maintenance/wiki) {\n            return 503;"
    for host, has_flag in (("app", False), ("single", True), ("lb", True)):
        text = files[f"{host}/etc/nginx/servers/@intranet.lan.conf"]
        assert (flag in text) is has_flag
        assert "error_page 502 503 504 /wi.ki/.flaskfleet-maintenance.html;" in text


def test_other_names_lead_to_the_first_one() -> None:
    files = shared(docs={"redirects": ["www.docs.lan"]})
    for host in ("app", "single", "lb"):
        text = files[f"{host}/etc/nginx/servers/docs.redirects.conf"]
        assert "server_name www.docs.lan;" in text
        assert "return 308 $client_scheme://docs.lan$client_port$request_uri;" in text


# access rules

RULES = {
    "allow": ["10.0.0.0/8", "fd00::/8"],
    "basic_auth": {"ann": "$6$salt$hash"},
    "limit": {"requests_per_second": 20, "connections": 9},
}


@pytest.mark.parametrize(("host", "checked_from"), [("lb", ["127.0.0.1"]), ("app", ["10.0.0.9"]), ("single", [])])
def test_hosts_have_the_access_rules_of_an_app(host: str, checked_from: list[str]) -> None:
    """Load balancers and the app servers behind them, which let the checks of load balancers through."""
    files = shared({"blog": RULES, "wiki": {"allow": ["10.0.0.0/8"]}, "docs": {}})
    told = files[f"{host}/etc/nginx/access/blog.conf"].splitlines()
    counted = (
        [] if host == "app" else ["limit_req zone=blog.requests burst=100 nodelay;", "limit_conn blog.connections 9;"]
    )
    assert [line for line in told if line and not line.startswith("#")] == [
        "set $app blog;", "allow 10.0.0.0/8;", "allow fd00::/8;",
        *(f"allow {one};" for one in checked_from), "deny all;",
        "auth_basic $realm;", "auth_basic_user_file passwords/blog;", *counted,
    ]  # fmt: skip
    assert files[f"{host}/etc/nginx/passwords/blog"].endswith("\nann:$6$salt$hash\n")
    assert f"{host}/etc/nginx/passwords/wiki" not in files and f"{host}/etc/nginx/access/docs.conf" not in files
    main = files[f"{host}/etc/nginx/nginx.conf"]
    assert ("zone=blog.requests:10m rate=20r/s;" in main) is (host != "app") and "zone=wiki" not in main
    assert re.findall(r"^        (\S+)\|\1 0;$", main, re.MULTILINE) == checked_from
    assert ("X-Forwarded-For $forwarded_for;" in main) is (host == "lb")


def test_every_way_to_an_app_has_its_access_rules() -> None:
    files = shared({"wiki": RULES})
    for host in ("lb", "app", "single"):
        for path in ("@intranet.lan", "blog"):
            text = files[f"{host}/etc/nginx/servers/{path}.conf"]
            for name, one in {one.split(" {")[0]: one for one in re.split(r"\n    location ", text)[1:]}.items():
                is_wikis = "wi.ki" in name and "maintenance" not in name
                assert ("include access/wiki.conf;" in one) is is_wikis, name
                # rewrite … break would end before what the access rules set.
                assert "rewrite" not in one.partition("include access/wiki.conf;")[0] or not is_wikis


# the packet filter


@pytest.mark.parametrize(
    ("addresses", "saddr"),
    [(["10.0.0.3", "10.0.0.4"], "ip saddr { 10.0.0.3, 10.0.0.4 }"), (["fd00::3"], "ip6 saddr { fd00::3 }")],
)
def test_the_packet_filter_accepts_addresses_of_either_family(addresses: list[str], saddr: str) -> None:
    files = rendered(
        "firewall", {}, firewall_http_ports=[80], firewall_http_from=addresses, firewall_vrrp_from=addresses
    )
    rules = [line.strip() for line in files["/etc/flaskfleet/firewall.nft"].splitlines() if "saddr" in line]
    assert rules == [f"meta l4proto 112 {saddr} accept", f"tcp dport {{ 80 }} {saddr} accept"]


def test_the_packet_filter_drops_nothing_but_http_and_vrrp() -> None:
    """ICMPv6 finds neighbours, and the size of packets."""
    files = rendered("firewall", {}, firewall_http_ports=[80], firewall_http_from=["fd00::3"])
    text = files["/etc/flaskfleet/firewall.nft"]
    assert "hook input priority filter; policy accept;" in text
    dropped = [line.strip() for line in text.splitlines() if line.endswith(" drop")]
    assert dropped == ["meta l4proto 112 counter drop", "tcp dport { 80 } counter drop"]


# keepalived

FACTS = {
    "interfaces": ["lo", "br-lan", "eth0"],
    "lo": {"device": "lo", "ipv4": {"address": "127.0.0.1"}, "ipv6": [{"address": "::1"}]},
    "br_lan": {"device": "br-lan", "ipv4": {"address": "10.0.0.3"}, "ipv6": [{"address": "fe80::1"}]},
    "eth0": {"device": "eth0", "ipv6": [{"address": "fe80::2"}, {"address": "fd00::3"}]},
}


def keepalived(peers: list[str], **given: str) -> str:
    """The instance's lines, without comments."""
    files = rendered("keepalived", FACTS, keepalived_peers=peers, keepalived_address=peers[0], **given)
    text = re.sub(r"^ *#.*\n", "", files["/etc/keepalived/keepalived.conf"], flags=re.MULTILINE)
    return re.sub(r"\s+", " ", text.partition("vrrp_instance")[2])


def test_a_shared_ipv6_address_is_never_the_source_of_requests_to_app_servers() -> None:
    text = keepalived(["fd00::3", "fd00::4"], keepalived_virtual_ip="fd00::9/64")
    assert "unicast_src_ip fd00::3 unicast_peer { fd00::4 }" in text
    assert "virtual_ipaddress { fd00::9/64 dev eth0 preferred_lft 0 }" in text
    assert "virtual_ipaddress_excluded" not in text


def test_an_ipv4_address_has_no_lifetime() -> None:
    text = keepalived(["10.0.0.3", "10.0.0.4"], keepalived_virtual_ip="10.0.0.9")
    assert "virtual_ipaddress { 10.0.0.9 dev br-lan }" in text


def test_an_address_of_the_other_family_moves_along() -> None:
    given = {"keepalived_virtual_ip": "10.0.0.9", "keepalived_second_virtual_ip": "fd00::9"}
    text = keepalived(["10.0.0.3", "10.0.0.4"], **given)
    assert "virtual_ipaddress { 10.0.0.9 dev br-lan }" in text
    assert "virtual_ipaddress_excluded { fd00::9 dev br-lan preferred_lft 0 }" in text
