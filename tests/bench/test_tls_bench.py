"""The benchmark of https: what it counts, and that it compares like with like."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import server
import tls
import yaml

BY_HAND = (Path(tls.__file__).parent / "tls/by_hand.conf").read_text()
TEMPLATES = server.ROOT / "roles/nginx/templates/etc/nginx"


def directive(text: str, name: str) -> str:
    """The value of a directive that stands in a configuration once, its blanks as one."""
    (found,) = re.findall(rf"^ *{name} (.*?);$", text, re.MULTILINE | re.DOTALL)
    return re.sub(r"\s+", " ", found)


@pytest.mark.parametrize("name", ["ssl_protocols", "ssl_session_cache", "ssl_session_timeout", "ssl_session_tickets"])
def test_tls_by_hand_is_the_roles(name: str) -> None:
    assert directive(BY_HAND, name) == directive((TEMPLATES / "tls.conf.j2").read_text(), name)


def test_ciphers_by_hand_are_the_roles() -> None:
    variables = yaml.safe_load((server.ROOT / "roles/nginx/vars/main.yml").read_text())
    assert directive(BY_HAND, "ssl_ciphers").split(":") == variables["__nginx_ciphers"]
    assert sorted(directive(BY_HAND, "ssl_ecdh_curve").split(":")) == sorted(
        re.findall(r"'(\w+)'", variables["__nginx_groups"])
    )


def test_the_log_by_hand_has_what_the_roles_has() -> None:
    ours = directive((TEMPLATES / "nginx.conf.j2").read_text(), "log_format site").partition("{{")[0]
    assert directive(BY_HAND, "log_format site").rstrip("'") == ours.replace("$client_request_id", "$request_id")


def test_only_answers_of_2xx_count() -> None:
    assert tls.answered("requests: 9 total\nstatus codes: 7 2xx, 1 3xx, 1 4xx, 0 5xx\n") == 7
    assert tls.answered("connection refused") == 0


@pytest.mark.parametrize(("answered", "is_fine"), [(50, True), (49, False)])
def test_a_request_that_fails_ends_it(monkeypatch: pytest.MonkeyPatch, answered: int, is_fine: bool) -> None:
    asked = []

    def inside(*argv: str) -> str:
        asked.append(argv)
        return f"status codes: {answered} 2xx, 0 3xx\n"

    monkeypatch.setattr(tls, "inside", inside)
    kind = tls.Kind("app", ("h2load", "-n{number}", "--connect-to=127.0.0.1:{port}"), 50, is_https=False)
    if is_fine:
        kind.run(tls.WAYS["by hand"])
    else:
        with pytest.raises(RuntimeError, match="app: not all of 50 requests"):
            kind.run(tls.WAYS["by hand"])
    assert asked == [("h2load", "-n50", "--connect-to=127.0.0.1:8081")]


def test_cpu_time_is_of_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "inside", lambda *_: "500000000 7 1\n1250000000 0 3\n")
    assert tls.cpu_seconds(tls.WAYS["flaskfleet"]) == 1.75


def test_rates_are_per_cpu_second_and_the_first_round_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    spent = dict.fromkeys(tls.WAYS.values(), 0.0)
    seconds = iter([9.0, 9.0, 2.0, 4.0, 4.0, 2.0])  # in the second round by hand is first

    def run(kind: tls.Kind, way: tls.Way) -> None:
        spent[way] += next(seconds)

    monkeypatch.setattr(tls.Kind, "run", run)
    monkeypatch.setattr(tls, "cpu_seconds", spent.__getitem__)
    assert tls.measure([tls.Kind("a", (), 100)], 2) == {("a", "flaskfleet"): [50, 50], ("a", "by hand"): [25, 25]}


def test_an_answer_that_differs_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {80: "A: 1\nDate: now\n", 8081: "Date: later\nA: 1\n", 443: "A: 1\n", 8444: "A: 2\n"}
    monkeypatch.setattr(tls, "inside", lambda *argv: answers[int(argv[-2].rpartition(":")[2])])
    with pytest.raises(RuntimeError, match="answered differently"):
        tls.see_same()
    answers[8444] = answers[443]
    tls.see_same()


def test_ratios_are_of_medians() -> None:
    found = {("full handshakes", "flaskfleet"): [90, 300, 100], ("full handshakes", "by hand"): [125, 125, 1]}
    line = next(line for line in tls.report(found).splitlines() if "full handshakes" in line)
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells == ["full handshakes", "100 (90 to 300)", "125 (1 to 125)", "0.80"]
