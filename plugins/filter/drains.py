"""Filters for draining and undraining app servers."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))
from plugin_utils import drains


class FilterModule:
    """The filters; their docstrings are in plugin_utils."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters by name."""
        return {
            "health_checks": drains.health_checks,
            "longest_request": drains.longest_request,
            "singleton_apps": drains.singleton_apps,
            "singletons_target": drains.singletons_target,
            "should_run_singletons": drains.should_run_singletons,
            "drained_hosts": drains.drained_hosts,
            "interrupted_drains": drains.interrupted_drains,
            "undrain_problems": drains.undrain_problems,
        }
