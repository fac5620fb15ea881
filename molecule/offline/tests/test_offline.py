"""Hosts without a way out are provisioned all the same."""

from __future__ import annotations

import os
import re

import pytest
from testinfra import get_host
from testinfra.host import Host

FETCH = "import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=10)"
ASK = """
import urllib.request
request = urllib.request.Request("http://127.0.0.1/healthz", headers={"Host": "hello.example.lan"})
print(urllib.request.urlopen(request).status)
"""


@pytest.mark.parametrize("url", ["https://pypi.org/simple/flask/", "http://1.1.1.1/"])
def test_host_has_no_way_out(host: Host, url: str) -> None:
    fetched = host.run("python3 -c %s %s", FETCH, url)
    assert fetched.rc != 0
    assert "URLError" in fetched.stderr


@pytest.mark.parametrize(
    ("name", "expected"),
    [("mirror", {"https://172.30.78.1:3142"}), ("proxy", {"http://deb.debian.org", "http://security.debian.org"})],
)
def test_packages_come_from_the_mirror_of_the_inventory(name: str, expected: set[str]) -> None:
    host = get_host(f"ansible://molecule-{name}", ansible_inventory=os.environ["MOLECULE_INVENTORY_FILE"])
    origins = re.findall(r"^ +\d+ (https?://[^/]+)/", host.check_output("apt-cache policy nginx"), re.MULTILINE)
    assert set(origins) == expected


def test_app_serves(host: Host) -> None:
    assert host.check_output("python3 -c %s", ASK) == "200"


@pytest.mark.parametrize("package", ["gcc", "libc6-dev", "python3-dev"])
def test_host_has_no_compiler(host: Host, package: str) -> None:
    assert not host.package(package).is_installed
