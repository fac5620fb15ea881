"""The state of a fleet, as ``reports/fleet.json`` and ``reports/fleet.html`` have it.

``fleet.json``::

    made      when, in UTC, like 2026-11-22T17:30:00Z
    by        the user that ran the playbook
    drift     how many; a host that does not answer counts as one
    hosts     a list of
        name, role              app server or balancer
        address                 as the inventory has it
        problem                 why it did not answer, in words; otherwise empty
        drift                   the differences from what was recorded, in words
        platform, disk          {mount point: {"free", "size"}} in bytes
        apps                    as the module fleet_state returns them, with "undeployed", the undeployed changes
        certificates            that its nginx serves, as the module fleet_state returns them
        maintenance             the apps whose maintenance page is shown, why and since when, in words
        drained                 of a balancer: its drained hosts, why and since when, in words
        has_address             of a balancer: whether it has the shared address
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import jinja2
from module_utils.flaskfleet.journal import now, release_id

from .rendering import PROJECT
from .run_identity import owner
from .status import undeployed_by_app

PAGE = PROJECT / "playbooks/templates/fleet.html.j2"

ROLES = {"load_balancers": "balancer", "app_servers": "app server"}  # by group
Host = dict[str, Any]


def report(groups: dict[str, list[str]], hostvars: Any) -> dict[str, Any]:
    """The report over all hosts of a run.

    :param groups: ``groups`` of Ansible. ``hostvars``: with the variables that playbooks/status.yml registers.
    """
    hosts = [
        _host_report(name, role, hostvars[name])
        for group, role in ROLES.items()
        for name in groups.get(group, [])
        if "__status_state" in hostvars[name]
    ]
    _add_release_drift(hosts)
    _add_singleton_drift(hosts, has_all_hosts=len(hosts) == sum(map(len, (groups.get(group, []) for group in ROLES))))
    drift = sum(len(host["drift"]) + bool(host["problem"]) for host in hosts)
    return {"made": now(), "by": owner()["by"], "drift": drift, "hosts": hosts}


def summary(report: dict[str, Any]) -> list[str]:
    """The drift, a line each."""
    return [
        f"{host['name']}: {words}" for host in report["hosts"] for words in [host["problem"], *host["drift"]] if words
    ]


def page(report: dict[str, Any]) -> str:
    """The report as a page of HTML. Text from hosts is escaped, which Ansible's own templates do not do."""
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(PAGE.read_text()).render(report=report)


def _host_report(name: str, role: str, variables: Any) -> Host:
    state = variables["__status_state"]
    undeployed = undeployed_by_app(variables.get("__status_asked", {}).get("results", []))
    problem = "" if "apps" in state else state.get("msg") or "it does not answer"
    return {
        "name": name,
        "address": variables.get("base_address") or variables.get("ansible_host") or name,
        "role": role,
        "problem": problem,
        "drift": list(state.get("drift", [])),
        "platform": state.get("platform", ""),
        "disk": state.get("disk", {}),
        "apps": [{**app, "undeployed": undeployed.get(app["app"])} for app in state.get("apps", [])],
        "certificates": state.get("certificates", []),
        "drained": state.get("drained", []),
        "maintenance": state.get("maintenance", []),
        "has_address": state.get("has_address", False),
    }


def _add_release_drift(hosts: list[Host]) -> None:
    """Add drift to each host whose live release is not the one of most hosts."""
    lives = [(host, app["app"], release_id(app["live"])) for host in hosts for app in host["apps"]]
    for name in {app for _, app, _ in lives}:
        counts = Counter(release for _, app, release in lives if app == name)
        usual = counts.most_common(1)[0][0]
        others = ", ".join(host["name"] for host, app, release in lives if (app, release) == (name, usual))
        for host, app, release in lives:
            if app == name and release != usual:
                host["drift"].append(f"{name}: {release} is live, and {usual} on {others}; deploy or roll back")


def _add_singleton_drift(hosts: list[Host], has_all_hosts: bool) -> None:
    """Add drift if singletons run on several hosts, or on none although every host has answered."""
    states = [(host, app["app"], app["singletons"]) for host in hosts for app in host["apps"]]
    for name in sorted({app for _, app, runs_them in states if runs_them is not None}):
        running = [host for host, app, runs_them in states if app == name and runs_them]
        names = ", ".join(host["name"] for host in running)
        if len(running) > 1:
            for host in running:
                host["drift"].append(f"{name}: singletons run on {names}, not on one host")
        elif not running and has_all_hosts and not any(host["problem"] for host in hosts):
            first = next(host for host, app, runs_them in states if app == name and runs_them is not None)
            first["drift"].append(f"{name}: singletons run on no host")
