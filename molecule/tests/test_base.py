"""The role base: packages, the kernel's listen queue, trust."""

from __future__ import annotations

import os

import pytest
from testinfra.host import Host

testinfra_hosts = ["ansible://app_servers"]


@pytest.mark.parametrize("package", ["curl", "htop", "nginx", "logrotate", "supervisor", "python3-venv"])
def test_package_is_installed(host: Host, package: str) -> None:
    assert host.package(package).is_installed


def test_no_recommended_packages(host: Host) -> None:
    wanted = {"bookworm": "netbase", "trixie": "bash-completion"}  # by nftables, by curl
    assert not host.package(wanted[host.system_info.codename]).is_installed


def test_kernel_setting_is_kept_for_the_next_boot(host: Host) -> None:
    assert "net.core.somaxconn = 4096" in host.file("/etc/sysctl.d/60-flaskfleet.conf").content_string.splitlines()


def test_listen_queue_is_as_long_as_uwsgi_asks_for(host: Host) -> None:
    assert host.sysctl("net.core.somaxconn") >= 1024


def test_controllers_certificates_are_trusted(host: Host) -> None:
    installed = host.file("/usr/local/share/ca-certificates/flaskfleet.crt").exists
    assert installed == bool(os.environ.get("SSL_CERT_FILE"))


def test_download_over_tls_is_verified(host: Host) -> None:
    assert host.run("curl -sSf -o /dev/null https://pypi.org/simple/flask/").rc == 0


def test_no_unit_failed(host: Host) -> None:
    assert host.check_output("systemctl --failed --plain --no-legend") == ""
