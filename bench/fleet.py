#!/usr/bin/env python3
"""Measures deploys and rollbacks of a fleet that it makes: two balancers and three app servers.

What counts is what clients of the shared address notice. It ends with 1 if a request failed, was lost or was executed
twice.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
import time

import plot
import server
from figures import Way, duration_table, latency_table, request_table
from load import Load, Options, duplicates, missing
from under_load import YIELDING, Plan, act, quiet, see_calm, wrong

INVENTORY = server.ROOT / "bench/fleet"
ADDRESS = "172.30.77.150"
APP_SERVERS = ("app1", "app2", "app3")
LOG = f"/srv/{server.APP}/shared/requests.log"


def measure(plan: Plan) -> tuple[Way, list[str]]:
    """Load the shared address while the app is deployed and rolled back; what was measured, and problems in words.

    Raises RuntimeError if the machine can't carry the load even without a run.
    """
    options = Options(f"http://{ADDRESS}", rate=plan.rate, host_header=server.SERVER_NAME)
    with Load(options, server.CACHE / "fleet.jsonl") as load:
        spans = [quiet(plan)]
        see_calm(load.results, plan)
        spans += act(plan, INVENTORY)
        time.sleep(max(0.0, load.started + plan.requests / plan.rate - time.monotonic()) + 1)
    log = "".join(server.inside("cat", LOG, container=f"bench-fleet-{name}") for name in APP_SERVERS)
    again = {one.number for one in load.results if one.repeated}
    twice = [number for number in duplicates(log) if number not in again]
    print(f"\n{load.report()}", flush=True)
    way = Way("the shared address", load.results, [span.since(load.started) for span in spans], len(twice))
    return way, wrong(way, missing(load.results, log), plan)


def main() -> int:
    """Measure, and write tables and picture."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--deploys", type=int, default=20, help="and as many rollbacks (%(default)s)")
    parser.add_argument("--requests", type=int, default=100_000, help="at least so many (%(default)s)")
    parser.add_argument("--rate", type=float, default=150.0, help="requests per second (%(default)s)")
    parser.add_argument("--steady", type=float, default=60.0, help="seconds without a run, before (%(default)s)")
    options = parser.parse_args()
    if options.deploys < 1:
        parser.error("--deploys must be at least 1")
    plan = Plan(options.deploys, options.requests, options.rate, options.steady)
    server.CACHE.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the containers are removed
    print("Making a fleet", flush=True)
    with server.provisioned(INVENTORY):
        print("Deploying under load", flush=True)
        way, problems = measure(plan)
    durations = {kind: [span.seconds for span in way.of(kind)] for kind in ("no change", "deploy", "rollback")}
    verdict = "\n".join(f"- **{problem}**" for problem in problems) or "No request failed, was lost or executed twice."
    text = f"""# Deploys of a fleet

{os.cpu_count()} CPUs, Linux {platform.release()}: load, controller and five hosts share them, playbooks run with
`{" ".join(YIELDING)}`. {plan.rate:g} requests a second, 10 % of them POSTs; 0.1 % take 3 s and are not in the
latencies. A switch is that of the first app server; the others follow within the run.

{verdict}

{request_table([way])}

{latency_table([way])}

{duration_table(durations)}

![Latency over time](fleet.png)
"""
    (server.CACHE / "fleet.md").write_text(text)
    print(f"\n{text}", flush=True)
    plot.draw([way], server.CACHE / "fleet.png")
    return 1 if problems else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RuntimeError as error:
        sys.exit(f"{error}")
