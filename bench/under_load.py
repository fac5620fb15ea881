"""Deploys and rollbacks while clients ask: no request may fail, be lost or be executed twice."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import server
import yaml
from figures import Span, Way, orphans, programs
from load import Load, Options, Result, duplicates, missing, percentile

WARM_UP_SECONDS = 3
PAUSE_SECONDS = 2  # between two runs, so that the window of a switch has no part of another
SECOND_LOAD = 10_000_000  # number of its first request
YIELDING = ["chrt", "--idle", "0"]  # the controller is another machine in real life
CALM_SECONDS = 0.1  # p50 before any run; above it, the load of the machine would be measured
SETTLES_WITHIN = 10  # seconds; Supervisor calls a program STARTING for startsecs (3)


@dataclass(frozen=True)
class Plan:
    """How much is done. ``requests`` is the least of each way, ``rate`` is per second and way."""

    deploys: int
    requests: int
    rate: float
    steady_seconds: float

    @property
    def no_change_runs(self) -> int:
        """How many runs find nothing to do, as a control."""
        return max(2, self.deploys // 2)


def measure(plan: Plan) -> tuple[list[Way], list[str]]:
    """Load both ways while the app is deployed and rolled back; what was measured, and problems in words.

    Raises RuntimeError if the machine can't carry the load even without a run.
    """
    nginx = Options(server.NGINX, rate=plan.rate, host_header=server.SERVER_NAME, seed=1)
    uwsgi = Options(server.UWSGI, rate=plan.rate, first_number=SECOND_LOAD, seed=2)
    records = [server.CACHE / f"{name}.jsonl" for name in ("nginx", "uwsgi")]
    with Load(nginx, records[0]) as first, Load(uwsgi, records[1]) as second:
        spans = [quiet(plan)]
        for load in (first, second):
            see_calm(load.results, plan)
        spans += act(plan)
        time.sleep(max(0.0, first.started + plan.requests / plan.rate - time.monotonic()) + 1)
    log = server.inside("cat", f"/srv/{server.APP}/shared/requests.log")
    twice = duplicates(log)
    ways, problems = [], []
    for name, load, numbers in (
        ("nginx", first, range(SECOND_LOAD)),
        ("uWSGI alone", second, range(SECOND_LOAD, 2 * SECOND_LOAD)),
    ):
        print(f"\n{name}\n{load.report()}", flush=True)
        way = Way(
            name, load.results, [span.since(load.started) for span in spans], sum(one in numbers for one in twice)
        )
        ways.append(way)
        problems += [f"{name}: {text}" for text in wrong(way, missing(load.results, log), plan)]
    return ways, problems + left_over()


def quiet(plan: Plan) -> Span:
    """Run the load without playbooks; the span on the clock of ``time.monotonic()``."""
    time.sleep(WARM_UP_SECONDS)
    started = time.monotonic()
    time.sleep(plan.steady_seconds)
    return Span("steady", started, time.monotonic())


def see_calm(results: list[Result], plan: Plan) -> None:
    """Raise RuntimeError if requests wait although nothing else is done: what follows would be no deploy's doing."""
    middle = percentile(results, 0.5)
    if not middle <= CALM_SECONDS:
        raise RuntimeError(
            f"p50 is {middle * 1000:.0f} ms before any run: the machine can't carry {plan.rate:g} requests per second "
            "each way; use a lower --rate, or end what else is running"
        )


def act(plan: Plan, inventory: Path = server.INVENTORY) -> list[Span]:
    """Do what changes nothing, then deploys and rollbacks; when, on the clock of ``time.monotonic()``."""
    spans = []
    steps = [("no change", "deploy", "build=0")] * plan.no_change_runs
    for number in range(1, plan.deploys + 1):
        steps += [("deploy", "deploy", f"build={number}"), ("rollback", "rollback", "build=0")]
    for number, (kind, playbook, variable) in enumerate(steps, 1):
        begun, ended, _ = server.run(YIELDING + server.command(f"playbooks/{playbook}", variable, inventory=inventory))
        spans.append(Span(kind, begun, ended))
        print(f"    {number} of {len(steps)}: {kind}, {ended - begun:.1f} s", flush=True)
        time.sleep(PAUSE_SECONDS)
    return spans


def wrong(way: Way, lost: list[int], plan: Plan) -> list[str]:
    """What may not be, of a way's requests."""
    failed, runs = sum(one.failed for one in way.results), way.of("deploy", "rollback")
    found = {
        f"{failed} requests failed": failed,
        f"{way.twice} requests were executed twice": way.twice,
        f"{len(lost)} requests were answered with 200 and are not in the app's record, like {lost[:5]}": lost,
        f"{len(way.results)} requests instead of {plan.requests}": len(way.results) < plan.requests,
        f"clients met another release in {len(way.switches)} of {len(runs)} runs": len(way.switches) != len(runs),
    }
    return [text for text, is_so in found.items() if is_so]


def left_over() -> list[str]:
    """What deploys have left behind on the host, beside what is live."""
    defaults = yaml.safe_load((server.ROOT / "roles/flask_app/defaults/main.yml").read_text())
    keep: int = defaults["flask_app_keep_releases"]
    home = f"/srv/{server.APP}"
    live = server.inside("readlink", f"{home}/current").strip().rpartition("/")[2]
    deadline = time.monotonic() + SETTLES_WITHIN
    while "STARTING" in (status := program_states()) and time.monotonic() < deadline:
        time.sleep(0.5)
    found = programs(status, server.APP)
    strays = orphans(server.inside("ps", "-eo", "pid=,ppid=,user:32=,args="), server.APP)
    releases = server.inside("ls", "-A", f"{home}/releases").split()
    problems = {
        f"programs: {found}, with {live} live": found != sorted([f"{server.APP}-{live}", f"{server.APP}-http"]),
        f"not all programs are running:\n{status}": status.count(" RUNNING ") != len(found),
        f"processes that Supervisor does not know: {strays}": bool(strays),
        f"{len(releases)} releases on disk, more than {keep}": len(releases) > keep,
    }
    return [text for text, is_so in problems.items() if is_so]


def program_states() -> str:
    """What Supervisor says of its programs; its exit code says whether all run."""
    return server.inside("sh", "-c", "supervisorctl status || true")
