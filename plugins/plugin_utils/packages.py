"""Names of Debian packages, as roles and inventories have them."""

from __future__ import annotations

import re


def bare_names(packages: list[str]) -> list[str]:
    """The names, without a version, a release or an architecture.

    >>> bare_names(["nginx", "htop=3.2*", "git/stable", "libc6:amd64", "curl>=7"])
    ['nginx', 'htop', 'git', 'libc6', 'curl']
    """
    return [re.split(r"[=/:<>]", name)[0] for name in packages]


def at_least(packages: list[str], versions: dict[str, str]) -> list[str]:
    """The packages, each with its known version as the lowest one, unless it already names a version.

    >>> at_least(["nginx", "htop=3.2*"], {"nginx": "1.22.1-9", "htop": "3.2.2-2"})
    ['nginx>=1.22.1-9', 'htop=3.2*']
    """
    return [f"{name}>={versions[name]}" if name in versions else name for name in packages]
