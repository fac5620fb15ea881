"""The controller's half of app_singletons: say which run it is. See the module."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))
from plugin_utils.app_action import AppAction
from plugin_utils.run_identity import owner


class ActionModule(AppAction):
    """Hand the module the token of this run."""

    MODULE = "app_singletons"

    def act(self) -> dict[str, Any]:
        """Run the action; the result is the module's."""
        return self.call({**self.options, "holder": owner()})
