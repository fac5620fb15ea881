"""Make the plugins importable as Ansible does."""

import sys
from pathlib import Path

import ansible.module_utils
import ansible.modules

PLUGINS = Path(__file__).parents[1] / "plugins"

sys.path.insert(0, str(PLUGINS))
ansible.module_utils.__path__.append(str(PLUGINS / "module_utils"))
ansible.modules.__path__.append(str(PLUGINS / "modules"))
