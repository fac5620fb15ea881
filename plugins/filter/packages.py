"""Filters over names of packages, for the role base."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))
from plugin_utils import packages


class FilterModule:
    """The filters; their docstrings are in plugin_utils."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters by name."""
        return {"at_least": packages.at_least, "bare_names": packages.bare_names}
