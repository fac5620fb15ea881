"""The packet filter: allowed connections, and the rollback of rules that lock the controller out."""

from __future__ import annotations

import re
import socket

import pytest
from faults import eventually
from fleet import APP_SERVERS, BALANCERS, begun, done, holders, host, kill, start

ADDRESSES = {"app1": "172.30.77.111", "app2": "172.30.77.112", "app3": "172.30.77.113"}
FILTER = "/etc/flaskfleet/firewall.nft"
KEPT = "/var/lib/flaskfleet/firewall.nft"
# VRRP version 3 (RFC 5798, 5.2): its sender claims to be the master.
FORGE = """
import socket, struct, sys
ours, theirs, vip = map(socket.inet_aton, sys.argv[1:4])
head = struct.pack("!BBBBHH", 0x31, 51, 255, 1, 50, 0) + vip
pseudo = ours + theirs + struct.pack("!BBH", 0, 112, len(head))
total = sum(struct.unpack(f"!{len(pseudo + head) // 2}H", pseudo + head))
total = (total & 0xFFFF) + (total >> 16)
packet = head[:6] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + head[8:]
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, 112)
raw.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 255)
for _ in range(50):
    raw.sendto(packet, (sys.argv[2], 0))
"""


def connects(name: str, address: str, port: int = 80) -> str:
    """The result of a connection from a host: ``open``, ``refused``, or ``dropped`` if there is no answer."""
    script = f"timeout 1 bash -c 'exec 3<>/dev/tcp/{address}/{port}'"
    return {0: "open", 1: "refused", 124: "dropped"}[host(name).run(script).rc]


def dropped(name: str, what: str) -> int:
    """How many packets a host has dropped by a rule."""
    rules = host(name).check_output("nft list table inet flaskfleet")
    return int(re.search(rf"{what}.* counter packets (\d+) .*drop", rules)[1])


@pytest.mark.parametrize("address", ADDRESSES.values(), ids=ADDRESSES)
def test_only_load_balancers_reach_an_app_server(address: str) -> None:
    assert {connects(name, address) for name in BALANCERS} == {"open"}
    others = [name for name, own in ADDRESSES.items() if own != address]
    assert {connects(name, address) for name in others} == {"dropped"}
    with pytest.raises(TimeoutError):
        socket.create_connection((address, 80), timeout=1)


def test_ssh_stays_open_and_other_ports_are_not_filtered() -> None:
    for address in ADDRESSES.values():
        socket.create_connection((address, 22), timeout=3).close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((address, 8888), timeout=3)


@pytest.mark.parametrize("target", BALANCERS)
def test_a_forged_advertisement_is_dropped(target: str) -> None:
    before, count = holders(), dropped(target, "l4proto (?:112|vrrp)")
    address = host(target).check_output("hostname -I").split()[0]
    host("app1").check_output("python3 -c %s %s %s %s", FORGE, ADDRESSES["app1"], address, "172.30.77.110")
    eventually(lambda: dropped(target, "l4proto (?:112|vrrp)") >= count + 50, "50 packets that were dropped")
    assert holders() == before


def test_rules_that_lock_the_controller_out_are_rolled_back() -> None:
    before = [host("app1").file(path).content for path in (FILTER, KEPT)]
    assert before[0] == before[1]
    play = begun(
        "../site", "--limit", "app1", "--tags", "firewall",
        firewall_rules=["tcp dport 22 drop"], firewall_confirm_seconds=5,
    )  # fmt: skip
    play.reach("Apply | Keep the packet filter")
    assert play.wait() != 0
    assert "With its new packet filter app1 could not be reached in time" in re.sub(r"\s+", " ", play.output)
    eventually(lambda: connects("lb1", ADDRESSES["app1"], 22) == "open", "ssh")
    assert host("app1").file(KEPT).content == before[1], "it would be loaded at boot"
    assert done("../site", "--limit", "app1", "--tags", "firewall").changed > 0
    assert [host("app1").file(path).content for path in (FILTER, KEPT)] == before
    assert done("../site", "--limit", "app1", "--tags", "firewall").changed == 0


def test_rules_under_which_a_balancer_gets_no_answer_are_not_kept() -> None:
    kept = host("app1").file(KEPT).content
    play = begun(
        "../site", "--limit", "app1", "--tags", "firewall",
        firewall_rules=["ip saddr 172.30.77.121 tcp dport 80 drop"], firewall_confirm_seconds=10,
    )  # fmt: skip
    assert play.wait() != 0
    assert "With its new packet filter app1 does not answer lb1 at http" in re.sub(r"\s+", " ", play.output)
    assert host("app1").file(KEPT).content == kept
    eventually(lambda: connects("lb1", ADDRESSES["app1"]) == "open", "the rules before")
    assert done("../site", "--limit", "app1", "--tags", "firewall").changed > 0


def test_rules_that_nft_refuses_change_nothing() -> None:
    before = host("app1").file(FILTER).content
    play = begun("../site", "--limit", "app1", "--tags", "firewall", firewall_rules=["tcp dport 80 forbid"])
    assert play.wait() != 0
    assert "tcp dport 80 forbid" in play.output
    assert host("app1").file(FILTER).content == before
    assert connects("app2", ADDRESSES["app1"]) == "dropped"


def test_rules_that_were_flushed_are_loaded_again() -> None:
    host("app1").check_output("nft flush ruleset")
    assert connects("app2", ADDRESSES["app1"]) == "open"
    assert done("../site", "--limit", "app1", "--tags", "firewall").changed > 0
    assert connects("app2", ADDRESSES["app1"]) == "dropped"


def test_rules_are_loaded_at_boot() -> None:
    kill("app1")
    start("app1")
    assert connects("app2", ADDRESSES["app1"]) == "dropped"
    assert host("app1").service("flaskfleet-firewall").is_enabled


@pytest.mark.slow
def test_a_disabled_packet_filter_leaves_nothing() -> None:
    try:
        done("../site", "--limit", "app1", "--tags", "firewall", firewall_enabled=False)
        left = host("app1").run("find /etc /usr/local /var/lib/flaskfleet -name '*firewall*' ! -path '*/trees/*'")
        assert left.stdout == ""
        assert host("app1").run("nft list table inet flaskfleet").rc != 0
        assert connects("app2", ADDRESSES["app1"]) == "open"
        off = done("../site", "--limit", "app1", "--tags", "firewall", firewall_enabled=False)
        assert off.changed == 0
    finally:
        done("../site", "--limit", "app1", "--tags", "firewall")
    assert {connects(name, ADDRESSES["app1"]) for name in APP_SERVERS if name != "app1"} == {"dropped"}
