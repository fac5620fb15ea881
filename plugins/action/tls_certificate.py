"""The controller's half of tls_certificate: the CA signs what the host asks for. See the module of the same name."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase

sys.path.append(str(Path(__file__).resolve().parents[1]))
from plugin_utils import authority
from plugin_utils.certificates import Unusable


class ActionModule(ActionBase):
    """Have the host make a key, issue a certificate for its public half, and hand that to the host."""

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the action; the result is the module's, with the record as ``certificate``."""
        super().run(tmp, task_vars)
        names, folder = sorted(self._task.args["names"]), Path(self._task.args["ca_folder"])
        if self._task.check_mode:
            return self._as_fact({"changed": True, "certificate": {"id": "new", "names": names}}, task_vars)
        request = self._execute_module("tls_certificate", {"state": "requested"}, task_vars=task_vars)
        if request.get("failed"):
            return dict(request)
        try:
            ca = authority.load(folder, str(self._task.args["ca_passphrase"]))
            is_client = boolean(self._task.args.get("is_client", False))
            certificate = ca.issue(request["request"], names, datetime.now(UTC), is_client)
        except Unusable as error:
            raise AnsibleActionFail(str(error)) from error
        arguments = {"state": "present", "certificate": certificate, "names": names, "ca": ca.id}
        return self._as_fact(self._execute_module("tls_certificate", arguments, task_vars=task_vars), task_vars)

    def _as_fact(self, result: dict[str, Any], task_vars: Any) -> dict[str, Any]:
        """The result, with the record among the host's facts as the next run finds it there."""
        if "certificate" in result:
            local = (task_vars or {}).get("ansible_facts", {}).get("ansible_local", {})
            result["ansible_facts"] = {"ansible_local": {**local, "tls": result["certificate"]}}
        return result
