"""Filters for taking an app server out of its balancers."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))
from plugin_utils import drains


class FilterModule:
    """Each is described where it is defined."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters by name."""
        return {
            "health_checks": drains.health_checks,
            "longest_request": drains.longest_request,
            "singleton_apps": drains.singleton_apps,
            "singletons_heir": drains.singletons_heir,
            "singletons_here": drains.singletons_here,
            "drained": drains.drained,
            "left_out": drains.left_out,
            "disagreements": drains.disagreements,
        }
