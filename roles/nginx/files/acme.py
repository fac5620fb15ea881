"""Gets certificates of an ACME directory (RFC 8555) for this host's sites, and has nginx serve them.

Run by flaskfleet-acme.timer. dehydrated speaks with the directory; what is due, what is served and what is recorded is
decided here. Nothing is due: nothing is asked. Ends with 1 if a site did not get what is due.

    flaskfleet-acme [SITE]...    sites that get another certificate although none is due
"""

import base64
import fcntl
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

CONFIG = Path("/etc/flaskfleet/acme/sites.json")
STATE = Path("/var/lib/flaskfleet/acme")
RECORD = Path("/var/lib/flaskfleet/acme.fact")
TREE = Path("/var/lib/flaskfleet/trees/nginx")  # see the module config_tree
LOCK = Path("/run/flaskfleet-acme.lock")
RENEWED_WITH_LEFT = 1 / 3  # of its life
ATTEMPTS = 5  # a directory refuses now and then what is sound, and says so: badNonce (RFC 8555, 6.5)
AT_MOST = 900  # seconds for one site, much longer than a directory or a DNS record takes
PATIENCE = 30  # seconds until nginx serves another certificate


class Failed(Exception):
    """Why a site did not get its certificate, in words."""


def main(forced):
    """Get what is due, and what is forced; the exit code."""
    os.umask(0o022)
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        config = json.loads(CONFIG.read_text())
        sites = config["sites"]
        if unknown := sorted(set(forced) - set(sites)):
            sys.exit(f"{', '.join(unknown)}: no such site; there are {', '.join(sites)}")
        (STATE / "challenges/.well-known/acme-challenge").mkdir(parents=True, exist_ok=True)
        record = {site: {"fetched": {}, "served": {}} for site in sites} | read_record()
        for site in forced:  # it is due until it is there
            record[site]["fetched"] = {}
        for site, names in sites.items():
            record[site]["asked"] = names
            attempt(site, record, renew, {"names": names, "directory": config["directory"]})
        with (TREE / "lock").open("a") as lock_of_tree:  # no run of site.yml moves nginx's files meanwhile
            fcntl.flock(lock_of_tree, fcntl.LOCK_EX)
            serve_what_waits(sites, record, config["port"])
            remove_others(sites, record)
        shutil.rmtree(STATE / "archive", ignore_errors=True)  # dehydrated keeps old keys there
    return 1 if any("error" in entry for entry in record.values()) else 0


def read_record():
    """What was fetched, what is served and what has failed, by site."""
    try:
        return json.loads(RECORD.read_text())["sites"]
    except FileNotFoundError:
        return {}


def write_record(record):
    """Keep it as a local fact of Ansible."""
    write(RECORD, json.dumps({"sites": record}, indent=2, sort_keys=True) + "\n", 0o644)


def attempt(site, record, step, *arguments):
    """Take a step for a site, and record what has come of it."""
    record[site].pop("error", None)
    try:
        step(site, record[site], *arguments)
    except (Failed, OSError, ValueError) as error:
        record[site]["error"] = str(error)
        print(f"{site} has no new certificate: {error}", file=sys.stderr)
    write_record(record)


def renew(site, entry, wanted):
    """Fetch a site's certificate if it is due."""
    is_there = (STATE / "certs" / site / "fullchain.pem").exists()
    if not is_there or is_due(entry["fetched"], wanted, time.time()):
        fetch(site, wanted)
        entry["fetched"] = {**wanted, **read_certificate(STATE / "certs" / site / "cert.pem")}


def is_due(fetched, wanted, now):
    """Whether another certificate is needed: names or the directory are others, or a third of its life is left."""
    if any(fetched.get(part) != value for part, value in wanted.items()):
        return True
    return fetched["until"] - now < (fetched["until"] - fetched["since"]) * RENEWED_WITH_LEFT


def fetch(site, wanted):
    """Have dehydrated get a certificate for a new key."""
    domains = [word for name in wanted["names"] for word in ("--domain", name)]
    argv = ["dehydrated", "--config", str(CONFIG.with_name("dehydrated")), "--cron", "--force", "--accept-terms"]
    argv += ["--no-lock", "--alias", site, *domains]
    for _ in range(ATTEMPTS):
        succeeded, output = run(*argv)
        if succeeded:
            return
        if "error:accountDoesNotExist" in output:  # its registration was interrupted, or the directory has forgotten it
            shutil.rmtree(account_folder(wanted["directory"]), ignore_errors=True)
        elif "error:badNonce" not in output:
            break
    raise Failed(find_reason(output))


def account_folder(directory):
    """Where dehydrated keeps the account of a directory."""
    return STATE / "accounts" / base64.urlsafe_b64encode(f"{directory}\n".encode()).decode().rstrip("=")


def find_reason(output):
    """What a directory or dehydrated says is wrong."""
    details = re.findall(r'"detail":\s*"((?:[^"\\]|\\.)*)"', output)
    errors = re.findall(r"ERROR: (.+)", output)
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return (details or errors or lines or ["dehydrated ended without a word"])[-1]


def read_certificate(path):
    """A certificate's serial number, and since when and until when it lasts, in epoch seconds."""
    output = check_run("openssl", "x509", "-in", str(path), "-noout", "-serial", "-startdate", "-enddate")
    serial, since, until = (line.partition("=")[2] for line in output.splitlines())
    return {"serial": serial, "since": ssl.cert_time_to_seconds(since), "until": ssl.cert_time_to_seconds(until)}


def serve_what_waits(sites, record, port):
    """Have nginx serve what was fetched and is not served yet: all at once, or else what it takes."""
    waiting = [site for site in sites if record[site]["fetched"] and not is_served(site, record[site])]
    if len(waiting) > 1:
        with suppress(Failed, OSError, ValueError):
            serve({site: record[site] for site in waiting}, port)
            write_record(record)
            return
    for site in waiting:
        attempt(site, record, lambda site, entry: serve({site: entry}, port))


def is_served(site, entry):
    """Whether what was fetched for a site is where nginx looks for it."""
    return entry["served"] == entry["fetched"] and all(path.exists() for path in served_files(site))


def served_files(site):
    """What nginx includes, and the certificate with its key."""
    return STATE / "served" / f"{site}.conf", STATE / "served" / f"{site}.pem"


def serve(entries, port):
    """Have nginx serve what was fetched for some sites, or what it served before."""
    if (TREE / "journal.json").exists():
        raise Failed("a run of site.yml was interrupted here while it changed nginx; run site.yml again")
    paths = [path for site in entries for path in served_files(site)]
    before = {path: path.read_text() if path.exists() else None for path in paths}
    for site in entries:
        conf, pem = served_files(site)
        folder = STATE / "certs" / site
        write(pem, (folder / "privkey.pem").read_text() + (folder / "fullchain.pem").read_text(), 0o600)
        # Relative, so that the check of a configuration that is staged reads what is staged.
        write(conf, f"include tls/acme-{site}.conf;\n", 0o644)
    try:
        check_run("nginx", "-t", "-q")
        check_run("systemctl", "reload", "nginx")
        for site, entry in entries.items():
            wait(entry["fetched"]["names"][0], port, (STATE / "certs" / site / "cert.pem").read_text())
    except Failed:
        for path, text in before.items():
            restore(path, text)
        raise
    for site, entry in entries.items():
        entry["served"] = entry["fetched"]
        print(f"{site} is served with a new certificate")


def restore(path, text):
    """Make a file what it was."""
    if text is None:
        path.unlink()
    else:
        write(path, text, path.stat().st_mode & 0o777)


def wait(name, port, certificate):
    """Wait until nginx serves a certificate."""
    end = time.monotonic() + PATIENCE
    while not is_answered(name.replace("*", "flaskfleet-acme-check"), port, certificate):
        if time.monotonic() > end:
            raise Failed(f"nginx has not served the new one within {PATIENCE} s; see /var/log/nginx/error.log")
        time.sleep(0.2)


def is_answered(name, port, certificate):
    """Whether nginx answers with a certificate for a name."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # it is compared
    with (
        suppress(OSError),
        socket.create_connection(("127.0.0.1", port), timeout=5) as connection,
        context.wrap_socket(connection, server_hostname=name) as secured,
    ):
        return secured.getpeercert(binary_form=True) == ssl.PEM_cert_to_DER_cert(certificate)
    return False


def remove_others(sites, record):
    """Forget sites that get no certificate here any more."""
    known = {path.stem for path in STATE.glob("served/*.pem")} | set(record)
    for site in known - set(sites):
        for path in served_files(site):
            path.unlink(missing_ok=True)
        shutil.rmtree(STATE / "certs" / site, ignore_errors=True)
        record.pop(site, None)
    write_record(record)


def check_run(*argv):
    """Run a command; its output."""
    succeeded, output = run(*argv)
    if not succeeded:
        raise Failed(f"{' '.join(argv)}: {output.strip()}")
    return output


def run(*argv):
    """Run a command; whether it succeeded, and its output."""
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, errors="replace", check=False, stdin=subprocess.DEVNULL,
            timeout=AT_MOST,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Failed(f"{argv[0]} has not ended within {AT_MOST} s") from None
    return not done.returncode, f"{done.stdout}{done.stderr}"


def write(path, text, mode):
    """Write a file under another name, make it durable and rename it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
