"""Filters over sites and the certificates that they are served with, for the role nginx."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))
from plugin_utils import authority, https


class FilterModule:
    """The filters; their docstrings are in plugin_utils."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters by name."""
        return {
            "used_certificates": https.used,
            "inner_name": https.inner_name,
            "map_source": https.map_source,
            "names_for_ca": https.names_for_ca,
            "acme_sites": https.acme_sites,
            "acme_is_due": https.acme_is_due,
            "certificate_is_due": authority.is_due,
            "ca_certificates": authority.trusted,
        }
