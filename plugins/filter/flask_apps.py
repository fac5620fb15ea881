"""Filters over ``flask_apps``, for the playbook that wires roles together."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))
from plugin_utils import entries


class FilterModule:
    """``flask_apps | nginx_sites`` and ``flask_apps | complete_apps``."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters by name."""
        return {"nginx_sites": entries.sites, "complete_apps": entries.complete}
