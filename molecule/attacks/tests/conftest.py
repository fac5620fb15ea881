"""Both hosts of the scenario, runs over them, and what is watched meanwhile."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import testinfra
from testinfra.host import Host

PROJECT = Path(__file__).resolve().parents[3]
INVENTORY = os.environ.get("MOLECULE_INVENTORY_FILE", "").rpartition("/")[0]
NAMES = ("first", "second")
ENDS_WITHIN = 300  # seconds, of any run
ATTACK = (PROJECT / "molecule/attacks/attack.py").read_text()
CANARIES = ("canary-of-a-variable", "canary-of-a-file", "canary-of-mallory")


def host(name: str) -> Host:
    """A host of the scenario."""
    return testinfra.get_host(f"docker://molecule-{name}")


def eventually(condition: Callable[[], Any], what: str, within: float = 60) -> Any:
    """Wait for a condition; what it returns, once that is true."""
    end = time.monotonic() + within
    while not (result := condition()):
        assert time.monotonic() < end, f"{what}: not within {within} seconds"
        time.sleep(0.1)
    return result


def play(playbook: str, *arguments: str, **variables: Any) -> subprocess.CompletedProcess[str]:
    """Run a playbook over both hosts to its end; its output."""
    command = ["ansible-playbook", playbook, "-i", INVENTORY, "-e", json.dumps(variables), *arguments]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0"}
    return subprocess.run(
        command, cwd=PROJECT, env=environment, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, timeout=ENDS_WITHIN, check=False,
    )  # fmt: skip


def put(name: str, path: str, content: str) -> None:
    """Write a file on a host."""
    subprocess.run(
        ["docker", "exec", "--interactive", f"molecule-{name}", "sh", "-c", 'cat > "$0" && chmod 755 "$0"', path],
        input=content, text=True, check=True,
    )  # fmt: skip


def begin(name: str, *argv: str) -> None:
    """Begin something on a host that goes on when this returns."""
    subprocess.run(["docker", "exec", "--detach", f"molecule-{name}", *argv], check=True)


# By their pids, and all at once as the user: the first misses who forks all the time, the second may be stopped itself.
END = """
for _ in $(seq 30); do
    pkill -KILL -u mallory
    timeout --signal=KILL 2 runuser -u mallory -- sh -c 'kill -KILL -1'
    pgrep -u mallory -f attack.py >/dev/null || exit 0
done
exit 1
"""


def end_attack(name: str) -> None:
    """End what the app's user runs beside the app; Supervisor starts the app again."""
    host(name).check_output("sh -c %s", END)


@contextmanager
def attack(*kinds: str) -> Iterator[None]:
    """The attack on both hosts while the block runs."""
    for name in NAMES:
        put(name, "/usr/local/bin/attack.py", ATTACK)
        begin(name, "runuser", "-u", "mallory", "--", "/usr/local/bin/attack.py", *kinds)
    for name in NAMES:
        eventually(
            lambda name=name: host(name).run("pgrep -c -u mallory -f attack.py").stdout.strip() >= str(len(kinds)),
            "an attack that goes on",
        )
    try:
        yield
    finally:
        for name in NAMES:
            end_attack(name)


# The most memory, in MB, that a process of Python has taken that root runs, and what processes show; until it is ended.
WATCH = """
import json, os, re, sys, time
canaries, seen = sys.argv[1:], {"mb": 0, "line": "", "processes": 0, "told": []}
known = set()
while not os.path.exists("/run/watched"):
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if int(pid) == os.getpid():
            continue
        try:
            status = open(f"/proc/{pid}/status").read()
            line = open(f"/proc/{pid}/cmdline", "rb").read().replace(b"\\0", b" ").decode(errors="replace")
        except OSError:
            continue
        seen["told"] += [line for canary in canaries if canary in line]
        found = re.search(r"^VmHWM:\\s+(\\d+)", status, re.MULTILINE)
        if re.search(r"^Uid:\\t0\\t", status, re.MULTILINE) and "python" in line and found:
            known.add(pid)
            if int(found[1]) / 1024 > seen["mb"]:
                seen["mb"], seen["line"] = int(found[1]) / 1024, line[:200]
    seen["processes"] = len(known)
    with open("/run/watch.json.new", "w") as file:
        json.dump(seen, file)
    os.rename("/run/watch.json.new", "/run/watch.json")
    time.sleep(0.05)
"""


@contextmanager
def watched() -> Iterator[dict[str, dict[str, Any]]]:
    """What root's processes take and tell on each host while the block runs; filled at its end."""
    for name in NAMES:
        host(name).run("rm -f /run/watched /run/watch.json")
        begin(name, "python3", "-c", WATCH, *CANARIES)
        eventually(lambda name=name: host(name).file("/run/watch.json").exists, "a watch that goes on")
    found: dict[str, dict[str, Any]] = {}
    try:
        yield found
    finally:
        for name in NAMES:
            found[name] = json.loads(host(name).check_output("touch /run/watched; cat /run/watch.json"))


# Owner, group, mode and content of what is not mallory's, and whose the files below the apps' folders are.
SNAPSHOT = """
import hashlib, json, os, stat
tops = ["/etc", "/root", "/usr/local", "/var/lib/flaskfleet/wheels", "/srv/neighbour", "/srv/mallory/releases",
        "/srv/mallory/venvs", "/srv/mallory/secrets", "/var/spool", "/home"]
changing = ("/etc/supervisor/conf.d", "/root/.ansible", "/usr/local/bin/attack.py")
found = {}
for top in tops:
    for folder, names, files in os.walk(top):
        names[:] = [name for name in names if name not in ("__pycache__", "run", "next", "previous")]
        for path in [folder, *(os.path.join(folder, name) for name in files)]:
            status = os.lstat(path)
            if path.startswith(changing):
                continue
            what = [stat.filemode(status.st_mode), status.st_uid, status.st_gid]
            if stat.S_ISREG(status.st_mode):
                what.append(hashlib.sha256(open(path, "rb").read()).hexdigest())
            elif stat.S_ISLNK(status.st_mode):
                what.append(os.readlink(path))
            found[path] = what
print(json.dumps(found))
"""


def snapshot(name: str) -> dict[str, list[Any]]:
    """What is on a host that is not mallory's."""
    return json.loads(host(name).check_output("python3 -c %s", SNAPSHOT))


def changed(before: dict[str, list[Any]], after: dict[str, list[Any]], may_change: str = "") -> dict[str, Any]:
    """What was there, and is not as it was. A deploy adds releases, and moves the links to them.

    :param may_change: a pattern of paths.
    """
    links = {f"/srv/neighbour/{link}" for link in ("current", "next", "previous", "shared/instance/config.py")}
    return {
        path: (was, after.get(path))
        for path, was in before.items()
        if path not in links and was != after.get(path) and not (may_change and re.match(may_change, path))
    }


def ask(name: str, url: str, app: str = "neighbour", port: int = 80) -> str:
    """Ask an app as a client; the status and the beginning of the answer, or nothing."""
    connection = http.client.HTTPConnection(host(name).check_output("hostname -I").split()[0], port, timeout=10)
    try:
        connection.request("GET", url, headers={"Host": f"{app}.example.lan"})
        answer = connection.getresponse()
        return f"{answer.status} {answer.read(65536).decode().strip()}"
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()
