"""Filters over ``flask_apps`` and what modules return about them, for playbooks and the role flask_app."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))
from plugin_utils import entries, rollouts, status


class FilterModule:
    """Each is described where it is defined."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters by name."""
        return {
            "nginx_sites": entries.sites,
            "complete_apps": entries.complete,
            "status_lines": status.lines,
            "rollback_target": rollouts.rollback_target,
            "fleet_release": rollouts.fleet_release,
            "singletons_host": rollouts.singletons_host,
            "hooks_done": rollouts.hooks_done,
            "joining_hosts": rollouts.joining_hosts,
            "switching_hosts": rollouts.switching_hosts,
            "strays": rollouts.unconfirmed_hosts,  # as the quarantine of tasks/rollout.yml calls it
            "rollout_failure": rollouts.failure,
            "rollout_not_retired": rollouts.not_retired,
            "rollout_summary": rollouts.summary,
        }
