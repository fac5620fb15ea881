"""What a release is made from: its id over all its inputs, and the secrets, which enter it by a key."""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import json
import os
import secrets
import tarfile
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from module_utils.flaskfleet.environments import RECORD
from module_utils.flaskfleet.journal import release_id

from .cache import CACHE
from .entries import Entry, of_a_release
from .packing import digest, further_wheels
from .requirements import Required
from .sources import SourceError


def release_key() -> bytes:
    """The key under which secrets enter a release's id. It stays on the controller."""
    path = CACHE / "release.key"
    if not path.exists():
        CACHE.mkdir(exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=CACHE) as beside, suppress(FileExistsError):
            beside.write(secrets.token_hex(32).encode())
            beside.flush()
            os.link(beside.name, path)  # complete at once, and the first of several that run at a time wins
    return path.read_bytes()


def secrets_id(entry: Entry) -> str:
    """What names an app's secrets: 12 hex digits, from which nobody without the key can tell what they are."""
    values = json.dumps([entry["secret_env"], entry["secret_files"]], sort_keys=True).encode()
    return hmac.new(release_key(), values, "sha256").hexdigest()[:12]


def secrets_sent(entry: Entry) -> str:
    """An app's secrets for the module: ``id``, ``env`` and ``files``."""
    env = {name: str(value) for name, value in entry["secret_env"].items()}
    return hidden({"id": secrets_id(entry), "env": env, "files": entry["secret_files"]})


def hidden(value: Any) -> str:
    """A value as one text, for an argument that is not shown.

    Ansible hides each value that is in such an argument wherever a result has it: of ``REDIS_DB: "1"`` each 1 in an
    id or a time.
    """
    return base64.b64encode(json.dumps(value).encode()).decode()


def release_inputs(
    entry: Entry, source: str, required: Required, templates: list[Path], settings: dict[str, Any]
) -> dict[str, Any]:
    """What a release is made from; two hosts with the same inputs have the same release.

    :param source: the source's hash. ``required`` is what pip installs, ``settings`` what other
        roles hand to the templates.
    """
    return {
        "source": source,
        "requirements": digest(
            [*required, *(hashlib.sha256(path.read_bytes()).hexdigest() for path in further_wheels(entry))]
        ),
        "templates": digest([[template.name, template.read_text()] for template in templates]),
        "settings": settings,
        "files": digest(entry["files"]),
        "secrets": secrets_id(entry),
        "entry": of_a_release(entry),
    }


def shipped(archive: Path, release: str) -> dict[str, Any]:
    """What makes the environment of a release that a host has packed: its ``python``, and the keys of its ``sets``.

    The interpreter is one that root runs, so it comes from the inputs, for which the release's id stands.

    :raises SourceError: the archive is of other inputs: the host is not to be trusted.
    """
    with tarfile.open(archive) as tar:
        made_of, record = (json.load(tar.extractfile(name) or io.BytesIO()) for name in (RECORD, "release.json"))
    if digest(record["inputs"])[:12] != release_id(release):
        raise SourceError(f"{archive} is not what {release} was made from; look at the host that has packed it")
    return {"python": record["inputs"]["entry"]["python"], "sets": made_of["sets"]}
