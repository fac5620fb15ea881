"""Filters over ``flask_apps``, for the playbook that wires roles together."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Callable

sys.path.append(str(Path(__file__).resolve().parents[1]))
from plugin_utils import entries  # noqa: E402  (the path comes first)


class FilterModule:
    """``flask_apps | nginx_sites`` and ``flask_apps | complete_apps``."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters by name."""
        return {"nginx_sites": entries.sites, "complete_apps": entries.complete}
