"""The certificates that a host's nginx serves: whose they are and how long they last."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path
from typing import Any

from .files import read_json

GIVEN = "/etc/nginx/tls/"
ISSUED = "/etc/flaskfleet/tls/"  # by the fleet's own CA, see the module tls_certificate
ACME = "/var/lib/flaskfleet/acme/served/"  # by an ACME directory, see roles/nginx/files/acme.py
ACME_SITES = "/etc/flaskfleet/acme/sites.json"
ACME_PREFIX = "acme-"
ACME_TIMER = "flaskfleet-acme.timer"
NAMED_IN = ("/etc/nginx/tls.conf", f"{GIVEN}fleet.conf")
FACT = "tls.fact"
DUE = 1 / 4  # of its life: a certificate of 90 days is due in its last 22
Certificate = dict[str, Any]


def served(state: Path, root: Path = Path("/")) -> list[Certificate]:
    """The certificates of a host: those of the config tree nginx by name, and the one of the fleet's own CA.

    :param state: the folder of flaskfleet's records.
    :returns: each with ``name``, ``issuer``, and ``since`` and ``until`` in epoch seconds.
    :raises OSError, ValueError: one can't be read, in words.
    """
    files = (read_json(state / "trees/nginx/manifest.json") or {"files": {}})["files"]
    given = sorted(path for path in files if path.startswith(GIVEN) and path.endswith(".pem"))
    got = sorted((root / ACME[1:]).glob("*.pem")) if ACME_SITES in files else []
    found = [{"name": path.stem, **read(path)} for path in [root / path[1:] for path in given]]
    found += [{"name": f"{ACME_PREFIX}{path.stem}", **read(path)} for path in got]
    if record := read_json(state / FACT):
        path = f"{ISSUED}{record['id']}.pem"
        if any(path in (root / file[1:]).read_text() for file in NAMED_IN if file in files):
            found.append({"name": "fleet", **read(root / path[1:])})
    return found


def read(path: Path) -> Certificate:
    """``issuer``, ``since`` and ``until`` of the first certificate of a file.

    :raises ValueError: it can't be read as one.
    """
    try:
        told = openssl("x509", "-in", str(path), "-noout", "-issuer", "-startdate", "-enddate", "-nameopt", "RFC2253")
    except ValueError as error:
        raise ValueError(f"{path} can't be read as a certificate: {error}") from error
    fields = dict(line.partition("=")[::2] for line in told.splitlines())
    since, until = map(ssl.cert_time_to_seconds, (fields["notBefore"], fields["notAfter"]))
    return {"issuer": fields["issuer"], "since": since, "until": until}


def openssl(*arguments: str, text: str | None = None) -> str:
    """Run OpenSSL with a text for its input; its output.

    :raises ValueError: it failed.
    """
    done = subprocess.run(["openssl", *arguments], input=text, capture_output=True, text=True, check=False, umask=0o077)
    if done.returncode:
        raise ValueError(f"openssl {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def drift(certificates: list[Certificate], now: float) -> list[str]:
    """The certificates that are due, in words."""
    words = []
    for one in certificates:
        left, life = one["until"] - now, one["until"] - one["since"]
        advice = "run site.yml" if one["name"] == "fleet" else "replace it, and run site.yml"
        if one["name"].startswith(ACME_PREFIX):
            advice = "its renewal fails, see journalctl -u flaskfleet-acme"
        if left < 0:
            words.append(f"certificate {one['name']} has expired, browsers refuse it: {advice}")
        elif left < life * DUE:
            words.append(f"certificate {one['name']} expires in {describe(left)}: {advice}")
    return words


def acme_drift(state: Path, root: Path) -> list[str]:
    """What the ACME directory has not issued, or what would not be renewed, in words."""
    if ACME_SITES not in (read_json(state / "trees/nginx/manifest.json") or {"files": {}})["files"]:
        return []
    wanted = (read_json(root / ACME_SITES[1:]) or {"sites": {}})["sites"]
    recorded = (read_json(state / "acme.fact") or {"sites": {}})["sites"]
    words = []
    for site, names in wanted.items():
        entry = recorded.get(site, {})
        if "error" in entry and entry["asked"] == names:  # or else it is an earlier inventory's
            words.append(f"{site} has no new certificate: {entry['error']}")
        elif not (root / ACME[1:] / f"{site}.conf").exists():
            words.append(f"{site} has no certificate of the ACME directory yet: run site.yml")
    argv = ["systemctl", "is-active", "--quiet", ACME_TIMER]
    if subprocess.run(argv, check=False, capture_output=True).returncode:
        words.append(f"{ACME_TIMER} does not run, and nothing renews certificates: systemctl start {ACME_TIMER}")
    return words


def describe(seconds: float) -> str:
    """A time that is left.

    >>> describe(3 * 86400 + 60), describe(86400), describe(7200)
    ('3 days', '1 day', '2 hours')
    """
    count, unit = (int(seconds // 86400), "day") if seconds >= 86400 else (int(seconds // 3600), "hour")
    return f"{count} {unit}{'' if count == 1 else 's'}"
