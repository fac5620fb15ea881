"""Filters over the hosts of a fleet, for playbooks that pass variables of some hosts to the roles of others."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))
from plugin_utils import fleet, report, server_blocks


class FilterModule:
    """The filters; their docstrings are in plugin_utils."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters by name."""
        return {
            "addresses": fleet.addresses,
            "balanced": fleet.balanced,
            "bracketed": fleet.bracketed,
            "http_addresses": fleet.http_addresses,
            "nginx_name": fleet.nginx_name,
            "interface_of": fleet.interface,
            "pools": fleet.pools,
            "pools_by_drained": fleet.pools_by_drained,
            "server_blocks": server_blocks.server_blocks,
            "fleet_report": report.report,
            "report_page": report.page,
            "report_summary": report.summary,
        }
