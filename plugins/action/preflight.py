"""Check all roles' variables for all hosts, and fetch the apps' sources, on the controller.

See the module of the same name.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

sys.path.append(str(Path(__file__).resolve().parents[1]))
from plugin_utils import fleet, preflight, sources
from plugin_utils.fleet_checks import check_fleet
from plugin_utils.https import check_https
from plugin_utils.https import remarks as https_remarks
from plugin_utils.rendering import PROJECT


class ActionModule(ActionBase):
    """Run once, on the controller; no host is touched."""

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Check; the result has ``claims`` by host, for preflight_host."""
        result = super().run(tmp, task_vars)
        variables = task_vars or {}
        imports = [item for name in self._task.args["playbooks"] for item in preflight.role_imports(PROJECT / name)]
        needs_sources = boolean(self._task.args.get("sources", True))
        fetch = preflight.once(sources.fetch) if needs_sources else None
        problems: defaultdict[str, list[str]] = defaultdict(list)
        claims = {}
        remarks: dict[str, None] = {}
        for host in variables["ansible_play_hosts_all"]:
            get = self._evaluator(host, variables["hostvars"])
            groups = {"all", *get("group_names")}
            host_imports = [item for item in imports if item.hosts in groups]
            names = {str(name) for name in variables["hostvars"][host]}
            found = preflight.check_host(host_imports, names, get, fetch)
            for problem in found:
                problems[str(problem)].append(host)
            if not found:
                faces_clients = host in fleet.facing_clients(variables["groups"])
                claims[host] = preflight.claims(host_imports, names, get, faces_clients)
                if needs_sources:
                    remarks |= dict.fromkeys(preflight.remarks(host_imports, names, get))
        if not problems:
            hosts = variables["groups"], variables["hostvars"]
            found = check_fleet(*hosts)
            if not found and boolean(self._task.args.get("certificates", False)):
                found += check_https(*hosts, self._loader.get_text_file_contents)
                remarks |= {} if found else dict.fromkeys(https_remarks(*hosts))
            problems |= {str(problem): ["the fleet"] for problem in found}
        if problems:
            lines = [f"- {problem}  [{', '.join(hosts)}]" for problem, hosts in problems.items()]
            result.update(failed=True, msg="\n".join(["Nothing was changed. Please mend the inventory:", *lines]))
        for remark in remarks:
            Display().display(f"{remark}")
        return {**result, "changed": False, "claims": claims}

    def _evaluator(self, host: str, hostvars: Any) -> Callable[[str], Any]:
        """A function that evaluates a variable of a host. The variable may use ``hostvars``, as in a task."""
        raw = {**hostvars.raw_get(host), "hostvars": hostvars}
        templar = self._templar.copy_with_new_env(available_variables=raw)
        return lambda name: templar.template(raw[name])
