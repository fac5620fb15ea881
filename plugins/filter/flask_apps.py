"""Filters over ``flask_apps`` and what modules return about them, for playbooks and the role flask_app."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))
from plugin_utils import entries, rollout_report, rollouts, status


class FilterModule:
    """The filters; their docstrings are in plugin_utils."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters by name."""
        return {
            "nginx_sites": entries.sites,
            "complete_apps": entries.complete,
            "status_lines": status.lines,
            "rollback_targets": rollouts.rollback_targets,
            "fleet_release": rollouts.fleet_release,
            "singletons": rollouts.singletons,
            "hooks_done": rollouts.hooks_done,
            "joining_hosts": rollouts.joining_hosts,
            "switch_order": rollouts.switch_order,
            "unconfirmed_hosts": rollout_report.unconfirmed_hosts,
            "rollout_failure": rollout_report.failure,
            "rollout_not_retired": rollout_report.not_retired,
            "rollout_summary": rollout_report.summary,
        }
