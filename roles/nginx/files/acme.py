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
JOURNAL = Path("/var/lib/flaskfleet/trees/nginx/journal.json")
LOCK = Path("/run/flaskfleet-acme.lock")
RENEWED_WITH_LEFT = 1 / 3  # of its life
ATTEMPTS = 5  # a directory refuses now and then what is sound, and says so: badNonce (RFC 8555, 6.5)
PATIENCE = 30  # seconds until nginx serves another certificate


class Failed(Exception):
    """Why a site did not get its certificate, in words."""


def main(forced):
    """Get what is due, and what is forced; the exit code."""
    os.umask(0o022)
    config = json.loads(CONFIG.read_text())
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (STATE / "challenges/.well-known/acme-challenge").mkdir(parents=True, exist_ok=True)
        record = read_record()
        remove_others(config["sites"], record)
        done = [renew(site, config, record, site in forced) for site in config["sites"]]
    return 0 if all(done) else 1


def read_record():
    """What is served and what has failed, by site."""
    try:
        return json.loads(RECORD.read_text())["sites"]
    except FileNotFoundError:
        return {}


def write_record(record):
    """Keep what is served and what has failed; a local fact of Ansible."""
    write(RECORD, json.dumps({"sites": record}, indent=2, sort_keys=True) + "\n", 0o644)


def renew(site, config, record, is_forced):
    """Get a site's certificate if it is due, and have nginx serve what was got; whether nothing has failed."""
    wanted = {"names": config["sites"][site], "directory": config["directory"]}
    entry = record.setdefault(site, {"fetched": {}, "served": {}})
    if is_forced or is_due(entry["fetched"], wanted, time.time()):
        steps = [("fetched", fetch), ("served", serve)]
    elif entry["served"] != entry["fetched"]:
        steps = [("served", serve)]
    else:
        return True
    try:
        for name, step in steps:
            entry[name] = {**wanted, **step(site, wanted, config["port"])}
            write_record(record)
    except (Failed, OSError) as error:
        entry |= {"error": str(error), "failed": int(time.time())}
        print(f"{site} ({', '.join(wanted['names'])}) has no new certificate: {error}", file=sys.stderr)
        return False
    else:
        entry.pop("error", None)
        print(f"{site} is served with a new certificate")
        return True
    finally:
        write_record(record)


def is_due(fetched, wanted, now):
    """Whether another certificate is needed: names or the directory are others, or a third of its life is left."""
    if any(fetched.get(part) != value for part, value in wanted.items()):
        return True
    return fetched["until"] - now < (fetched["until"] - fetched["since"]) * RENEWED_WITH_LEFT


def fetch(site, wanted, _port):
    """Have dehydrated get a certificate for a new key; since when and until when it lasts."""
    domains = [word for name in wanted["names"] for word in ("--domain", name)]
    argv = ["dehydrated", "--config", str(CONFIG.with_name("dehydrated")), "--cron", "--force", "--accept-terms"]
    argv += ["--no-lock", "--alias", site, *domains]
    for _ in range(ATTEMPTS):
        done = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        if not done.returncode:
            return dates(STATE / "certs" / site / "cert.pem")
        said = f"{done.stdout}\n{done.stderr}"
        if "error:accountDoesNotExist" in said:  # its registration was interrupted, or the directory has forgotten it
            shutil.rmtree(account(wanted["directory"]), ignore_errors=True)
        elif "error:badNonce" not in said:
            break
    raise Failed(reason(said))


def account(directory):
    """Where dehydrated keeps the account of a directory."""
    return STATE / "accounts" / base64.urlsafe_b64encode(f"{directory}\n".encode()).decode().rstrip("=")


def reason(said):
    """What a directory or dehydrated says is wrong."""
    details = re.findall(r'"detail":\s*"((?:[^"\\]|\\.)*)"', said)
    errors = re.findall(r"ERROR: (.+)", said)
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return (details or errors or lines or ["dehydrated ended without a word"])[-1]


def dates(certificate):
    """Since when and until when a certificate lasts, in epoch seconds."""
    told = run("openssl", "x509", "-in", str(certificate), "-noout", "-startdate", "-enddate")
    since, until = (ssl.cert_time_to_seconds(line.partition("=")[2]) for line in told.splitlines())
    return {"since": since, "until": until}


def serve(site, wanted, port):
    """Have nginx serve what was fetched; since when and until when it lasts."""
    if JOURNAL.exists():
        raise Failed("a run of site.yml was interrupted here while it changed nginx; run site.yml again")
    folder, path = STATE / "certs" / site, STATE / "served" / f"{site}.pem"
    before = {file: file.read_text() if file.exists() else None for file in (path, path.with_suffix(".conf"))}
    write(path, (folder / "privkey.pem").read_text() + (folder / "fullchain.pem").read_text(), 0o600)
    # Relative, so that the check of a configuration that is staged reads what is staged.
    write(path.with_suffix(".conf"), f"include tls/acme-{site}.conf;\n", 0o644)
    try:
        run("nginx", "-t", "-q")
        run("systemctl", "reload", "nginx")
        wait(wanted["names"][0].replace("*", "any"), port, (folder / "cert.pem").read_text())
    except Failed:
        for file, text in before.items():
            restore(file, text)
        raise
    return dates(path)


def restore(path, text):
    """Make a file what it was."""
    if text is None:
        path.unlink()
    else:
        write(path, text, path.stat().st_mode & 0o777)


def wait(name, port, certificate):
    """Wait until nginx serves a certificate."""
    end = time.monotonic() + PATIENCE
    while not serves(name, port, certificate):
        if time.monotonic() > end:
            raise Failed(f"nginx has not served it within {PATIENCE} s; see /var/log/nginx/error.log")
        time.sleep(0.2)


def serves(name, port, certificate):
    """Whether nginx serves a certificate under a name."""
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
        for path in (*STATE.glob(f"served/{site}.*"), STATE / "certs" / site):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        record.pop(site, None)
        write_record(record)


def run(*argv):
    """Run a command; its output."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"{' '.join(argv)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


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
