"""The controller's half of app_singletons: it adds the holder. See the module."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))
from plugin_utils.app_action import AppAction
from plugin_utils.run_identity import owner


class ActionModule(AppAction):
    """Run the module with this run as the holder."""

    MODULE = "app_singletons"

    def act(self) -> dict[str, Any]:
        """Run the action; the result is the module's."""
        return self.run_module({**self.options, "holder": owner()})
