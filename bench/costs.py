"""The cost of a deploy of changed code, compared with the least effort: tar over ssh, a rename, a start."""

from __future__ import annotations

import http.client
import os
import shlex
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import server
from figures import task_seconds

POLL_SECONDS = 0.01
GIVE_UP_SECONDS = 300
SOURCE = server.CACHE / "source"
LINE = 'return "ok"'  # a line of the app that each round changes
PROFILED = 3  # deploys
FLOOR = "/srv/floor"
FLOOR_PORTS = (8101, 8102)  # in turn, because the new uWSGI starts beside the old one
HAND = "/srv/hand"
HAND_PORT = 8103


@dataclass(frozen=True)
class Cost:
    """Seconds from the start until the new code answered and until all was done, and CPU seconds of the controller."""

    answered: float
    ended: float
    cpu: float


def change(text: str) -> None:
    """Make the source a copy of the app that answers ``text`` to its health path."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    shutil.copytree(server.ROOT / "molecule/shared/apps" / server.APP, SOURCE)
    file = SOURCE / server.APP / "__init__.py"
    code = file.read_text()
    if code.count(LINE) != 1:
        raise ValueError(f"{file} has {LINE!r} not once")
    file.write_text(code.replace(LINE, f'return "{text}"'))


def answer(url: str) -> str:
    """The app's answer to its health path; empty without one."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=1)
    try:
        connection.request("GET", "/healthz", headers={"Host": server.SERVER_NAME})
        return connection.getresponse().read().decode()
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()


def measured(command: list[str], log: Path, url: str = "", text: str = "") -> Cost:
    """Run a command, and send requests until the answer has a text.

    Raises RuntimeError if the command fails or the text does not come.
    """
    started = time.monotonic()
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=server.ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    answered = 0.0
    while url and not answered:
        asked = time.monotonic()
        if answer(url) == text:
            answered = time.monotonic() - started
        elif asked - started > GIVE_UP_SECONDS:
            process.kill()
            raise RuntimeError(f"{url} did not answer {text!r} in {GIVE_UP_SECONDS} s; see {log}")
        else:
            time.sleep(max(0.0, asked + POLL_SECONDS - time.monotonic()))
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}; see {log}")
    return Cost(answered, time.monotonic() - started, usage.ru_utime + usage.ru_stime)


def flaskfleet(number: int) -> Cost:
    """Deploy changed code with flaskfleet."""
    text = f"ok flaskfleet {number}"
    change(text)
    command = server.command("playbooks/deploy", f"counter_source={SOURCE}")
    return measured(command, server.CACHE / "flaskfleet.log", server.NGINX, text)


def uwsgi(venv: str, home: str, port: int, *further: str, processes: int = 8) -> str:
    """The command of a uWSGI like the app's, of the code below ``home``/current."""
    return shlex.join([
        f"{venv}/bin/uwsgi", "--master", "--processes", str(processes), "--need-app", "--single-interpreter",
        "--enable-threads", "--http-socket", f"0.0.0.0:{port}", "--chdir", f"{home}/current",
        "--module", "counter:create_app()", "--virtualenv", venv, "--uid", server.APP, "--gid", server.APP,
        "--die-on-term", *further,
    ])  # fmt: skip


def replaced(number: int, home: str, start: str, control: str) -> list[str]:
    """The command that sends the source with tar over ssh, renames a link to it, and starts it."""
    script = (
        f"set -e; mkdir -p {home}/{number}; tar -x --no-same-owner -C {home}/{number}; "
        f"ln -s {number} {home}/next; mv -T {home}/next {home}/current; {start}"
    )
    return ["sh", "-c", f"tar -c -C {SOURCE} . | {shlex.join(ssh(script, control))}"]


def floor(number: int, venv: str, control: str) -> Cost:
    """Replace the code with the least effort: no check, no drain, no supervisor, no old release on disk."""
    text = f"ok floor {number}"
    change(text)
    port = FLOOR_PORTS[number % 2]
    start = uwsgi(venv, FLOOR, port, "--pidfile", f"{FLOOR}/{port}.pid", "--daemonize", f"{FLOOR}/{port}.log")
    send = replaced(number, FLOOR, start, control)
    new = measured(send, server.CACHE / "floor.log", f"http://{server.ADDRESS}:{port}", text)
    if not number:
        return new
    old = measured(ssh(killed(number - 1), control), server.CACHE / "floor.log")
    return Cost(new.answered, new.ended + old.ended, new.cpu + old.cpu)


def killed(number: int) -> str:
    """The command that ends the uWSGI of a round."""
    return f"kill -INT $(cat {FLOOR}/{FLOOR_PORTS[number % 2]}.pid)"


def by_hand(number: int, control: str) -> Cost:
    """Replace the code as people do it by hand: requests fail until the program that Supervisor restarts answers."""
    text = f"ok by hand {number}"
    change(text)
    send = replaced(number, HAND, "supervisorctl restart hand", control)
    return measured(send, server.CACHE / "hand.log", f"http://{server.ADDRESS}:{HAND_PORT}", text)


def create_program(venv: str) -> None:
    """Create the program that ``by_hand`` restarts, with Supervisor's defaults."""
    conf = f"[program:hand]\ncommand={uwsgi(venv, HAND, HAND_PORT)}\nredirect_stderr=true\n"
    prepare = f"mkdir -p {HAND} && ln -sfn /srv/{server.APP}/current/src {HAND}/current"
    server.inside("sh", "-c", f"{prepare} && printf %s {shlex.quote(conf)} > /etc/supervisor/conf.d/hand.conf")
    server.inside("sh", "-c", "supervisorctl reread && supervisorctl add hand")


def clean_up(rounds: int) -> None:
    """Remove the programs of the other ways from the host."""
    conf = "/etc/supervisor/conf.d/hand.conf"
    server.inside("sh", "-c", f"supervisorctl stop hand; rm {conf}; supervisorctl reread; supervisorctl remove hand")
    server.inside("sh", "-c", killed(rounds))


def ssh(script: str, control: str) -> list[str]:
    """The command that runs a script on the host. The connection stays open, as Ansible's does."""
    keys = server.CACHE / "keys"
    options = [
        f"UserKnownHostsFile={keys}/known_hosts", "IdentitiesOnly=yes",
        "ControlMaster=auto", "ControlPersist=60s", f"ControlPath={control}",
    ]  # fmt: skip
    return ["ssh", "-i", f"{keys}/id_ed25519", *(f"-o{one}" for one in options), f"root@{server.ADDRESS}", script]


def measure(rounds: int) -> dict[str, list[Cost]]:
    """Deploy each way in turn; the first round is not counted."""
    venv = server.inside("readlink", "-f", f"/srv/{server.APP}/current/venv").strip()
    create_program(venv)
    costs: dict[str, list[Cost]] = {"floor": [], "by hand": [], "flaskfleet": []}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        control = f"{folder}/ssh"
        for number in range(rounds + 1):
            turn = {
                "floor": floor(number, venv, control),
                "by hand": by_hand(number, control),
                "flaskfleet": flaskfleet(number),
            }
            said = ", ".join(f"{name} {cost.answered:.2f} s" for name, cost in turn.items())
            print(f"    {number} of {rounds}: {said}{'' if number else ' (not counted)'}", flush=True)
            if number:
                for name, cost in turn.items():
                    costs[name].append(cost)
        clean_up(rounds)
    return costs


def profile() -> list[dict[str, float]]:
    """Seconds per task of further deploys, and of Ansible itself."""
    found = []
    environment = {
        "ANSIBLE_CALLBACKS_ENABLED": "ansible.posix.profile_tasks",
        "PROFILE_TASKS_TASK_OUTPUT_LIMIT": "all",
        "PROFILE_TASKS_SORT_ORDER": "none",
    }
    for number in range(PROFILED):
        change(f"ok profile {number}")
        begun, ended, output = server.run(server.command("playbooks/deploy", f"counter_source={SOURCE}"), environment)
        tasks = task_seconds(output)
        found.append({"Ansible's start and end": ended - begun - sum(tasks.values()), **tasks})
    return found
