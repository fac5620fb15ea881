"""Filters over ``flask_apps`` and what hosts say of them, for the playbooks that wire roles together."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))
from plugin_utils import entries, status


class FilterModule:
    """``flask_apps | nginx_sites``, ``flask_apps | complete_apps``, and ``state | status_lines(asked)``."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters by name."""
        return {"nginx_sites": entries.sites, "complete_apps": entries.complete, "status_lines": status.lines}
