#!/usr/bin/env python3
"""Measures deploys on a container that it makes: errors and latency for clients, and the cost of a deploy.

It ends with 1 if a request failed, was lost or was executed twice, or if deploys left something behind.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import statistics
import sys
from collections.abc import Sequence

import costs
import plot
import server
import under_load
from figures import Way, duration_table, latency_table, ratio, request_table, table


def load_section(ways: Sequence[Way], plan: under_load.Plan) -> str:
    """Errors and latency under load, in Markdown."""
    durations = {kind: [span.seconds for span in ways[0].of(kind)] for kind in ("no change", "deploy", "rollback")}
    return f"""## Under load

{plan.rate:g} requests a second each way, 10 % of them POSTs; 0.1 % take 3 s and are not in the latencies. Load, server
and controller share this machine, where playbooks run with `{" ".join(under_load.YIELDING)}`. What they cost their
neighbours even so is seen in the runs that change nothing: what a deploy costs clients is its ratio to those.

{request_table(ways)}

{latency_table(ways)}

{duration_table(durations)}

![Latency over time](deploy.png)
"""


def cost_section(measured: dict[str, list[costs.Cost]], profile: Sequence[dict[str, float]]) -> str:
    """The cost of a deploy, in Markdown."""
    rows = []
    for name, what in (
        ("answered", "new code answers, s"),
        ("ended", "all is done, s"),
        ("cpu", "controller's CPU, s"),
    ):
        values = {way: [getattr(cost, name) for cost in all_] for way, all_ in measured.items()}
        middle = {way: statistics.median(all_) for way, all_ in values.items()}
        cells = [f"{middle[way]:.2f} ({min(all_):.2f} to {max(all_):.2f})" for way, all_ in values.items()]
        rows.append((what, *cells, *(ratio(middle["flaskfleet"], middle[way]) for way in ("floor", "by hand"))))
    steps = {name: [one.get(name, 0.0) for one in profile] for one in profile for name in one}
    return f"""## Changed code, without load

The least is tar over ssh, a rename and the start of a uWSGI of as many workers in the same environment that nobody
watches. By hand is the same with `supervisorctl restart`, which refuses requests meanwhile. Both check, keep and drain
nothing. By turns, {len(measured["floor"])} times each; median (least to most).

{table(("", "the least", "by hand", "flaskfleet", "of the least", "of by hand"), rows)}

Where flaskfleet's time goes, by `profile_tasks`:

{duration_table(steps)}
"""


def main() -> int:
    """Measure, and write tables and picture."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--deploys", type=int, default=20, help="and as many rollbacks (%(default)s)")
    parser.add_argument("--requests", type=int, default=100_000, help="at least so many each way (%(default)s)")
    parser.add_argument("--rate", type=float, default=350.0, help="requests per second each way (%(default)s)")
    parser.add_argument("--steady", type=float, default=60.0, help="seconds without a run, before (%(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="deploys of changed code, without load (%(default)s)")
    options = parser.parse_args()
    if min(options.deploys, options.rounds) < 1:
        parser.error("--deploys and --rounds must be at least 1")
    plan = under_load.Plan(options.deploys, options.requests, options.rate, options.steady)
    server.CACHE.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the container is removed
    print("Making a server", flush=True)
    with server.provisioned():
        print("Deploying changed code, without load", flush=True)
        measured, profile = costs.measure(options.rounds), costs.profile()
        server.run(server.command("playbooks/deploy", "build=0"))
        print("Deploying under load", flush=True)
        ways, problems = under_load.measure(plan)
    head = f"# Deploys of `{server.APP}`\n\n{os.cpu_count()} CPUs, Linux {platform.release()}.\n"
    verdict = "\n".join(f"- **{problem}**" for problem in problems) or "No request failed, was lost or executed twice."
    text = "\n".join((head, verdict + "\n", load_section(ways, plan), cost_section(measured, profile)))
    (server.CACHE / "deploy.md").write_text(text)
    print(f"\n{text}", flush=True)
    plot.draw(ways, server.CACHE / "deploy.png")
    return 1 if problems else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RuntimeError as error:
        sys.exit(f"{error}")
