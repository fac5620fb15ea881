"""The controller's halves: what they hand to the modules, and when they send a source."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from action import app_release as app_release_action
from action import config_tree as config_tree_action
from ansible.errors import AnsibleActionFail
from ansible.module_utils.testing import patch_module_args
from ansible.modules import app_release
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from plugin_utils import packing

HOST = {"ansible_facts": {"processor_nproc": 2}}


def make_action(plugin: Any, arguments: dict[str, Any], role: Path | None = None) -> Any:
    """Make an action whose module is recorded instead of executed."""
    task = MagicMock(
        args=arguments, async_val=0, check_mode=False, _role=role and SimpleNamespace(_role_path=str(role))
    )
    action = plugin.ActionModule(task, MagicMock(), MagicMock(), DataLoader(), Templar(DataLoader()), MagicMock())
    action._execute_module = MagicMock(return_value={})
    return action


# config_tree


@pytest.fixture
def role(tmp_path: Path) -> Path:
    (tmp_path / "templates/etc").mkdir(parents=True)
    (tmp_path / "templates/etc/{site}.conf.j2").write_text("{{ site.name }} {{ ansible_facts.processor_nproc }}\n")
    return tmp_path


def test_config_tree_hands_the_rendered_tree_to_its_module(role: Path) -> None:
    arguments = {"name": "nginx", "each": {"site": [{"name": "blog"}]}, "modes": {"*": "0600"}, "running": "http://x"}
    action = make_action(config_tree_action, arguments, role)
    action.run(task_vars=HOST)
    name, sent = action._execute_module.call_args.args
    assert len(sent.pop("tree")) == 12
    assert (name, sent) == (
        "config_tree",
        {
            "name": "nginx",
            "running": "http://x",
            "files": [{"path": "/etc/blog.conf", "content": "blog 2\n", "mode": "0600"}],
        },
    )


def test_config_tree_renders_nothing_to_wait(role: Path) -> None:
    action = make_action(config_tree_action, {"name": "nginx", "state": "running"}, role)
    action.run(task_vars=HOST)
    assert action._execute_module.call_args.args[1] == {"name": "nginx", "state": "running"}


def test_config_tree_names_a_folder_that_is_not_there(role: Path) -> None:
    with pytest.raises(AnsibleActionFail, match=f"there is no folder {role}/tmeplates"):
        make_action(config_tree_action, {"name": "nginx", "src": "tmeplates"}, role).run(task_vars=HOST)


# app_release


@pytest.fixture
def entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """An entry of flask_apps with all its defaults, and its source."""
    monkeypatch.setattr(packing, "CACHE", tmp_path / "cache")
    source = tmp_path / "blog"
    source.mkdir()
    (source / "app.py").write_text("app = None\n")
    (source / "requirements.txt").write_text("flask\n")
    return {
        "name": "blog",
        "source": {"path": str(source)},
        "requirements": "requirements.txt",
        "server_names": ["*.blog.example", "blog.example"],
        "python": "/usr/bin/python3",
        "processes": 4,
        "env": {"NUMBER": 8, "TEXT": "{{ not a template }}"},
        "secret_env": {"KEY": "s3cret"},
        "static": {"/static": "static"},
        "health": {"path": "/", "timeout_seconds": 60},
    }


@pytest.fixture
def release(entry: dict[str, Any], tmp_path: Path) -> Callable[..., Any]:
    """A function that makes the action for the entry with some of it changed."""
    templates = tmp_path / "release"
    templates.mkdir()
    (templates / "uwsgi.ini.j2").write_text(
        "{{ app.name }} {{ settings.listen }} {{ release.path }} {{ ansible_facts.processor_nproc }}\n"
    )

    def make(**changed: Any) -> Any:
        arguments = {
            "app": {**entry, **changed},
            "templates": [str(templates)],
            "settings": {"uwsgi_version": "2.0.31", "listen": 1024},
        }
        return make_action(app_release_action, arguments)

    return make


def sent(action: Any, host: dict[str, Any] = HOST) -> dict[str, Any]:
    action.run(task_vars=host)
    return action._execute_module.call_args.args[1]


def test_a_release_is_what_its_module_accepts(
    release: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(app_release, "run", lambda *_: {"changed": True, "undeployed": []})
    with patch_module_args(sent(release())), pytest.raises(SystemExit):
        app_release.main()
    assert json.loads(capsys.readouterr().out)["changed"]


def test_a_releases_files_are_rendered_for_the_host(release: Callable[..., Any]) -> None:
    arguments = sent(release())
    name = arguments["release"]
    assert arguments["files"] == {"uwsgi.ini": f"blog 1024 /srv/blog/releases/{name} 2\n"}


def test_facts_make_no_other_release(release: Callable[..., Any]) -> None:
    other = {"ansible_facts": {"processor_nproc": 64}}
    assert sent(release())["release"] == sent(release(), other)["release"]


def test_a_setting_makes_another_release(release: Callable[..., Any]) -> None:
    assert sent(release())["release"] != sent(release(processes=8))["release"]


def test_a_release_knows_who_it_is(release: Callable[..., Any]) -> None:
    arguments = sent(release())
    assert arguments["env"] == {
        "NUMBER": "8",
        "TEXT": "{{ not a template }}",
        "FLASKFLEET_APP": "blog",
        "FLASKFLEET_RELEASE": arguments["release"],
        "FLASKFLEET_SHARED": "/srv/blog/shared",
    }


def test_secrets_are_apart_from_all_else(release: Callable[..., Any]) -> None:
    arguments = sent(release())
    assert arguments.pop("secret_env") == {"KEY": "s3cret"}
    assert "s3cret" not in json.dumps(arguments)


def test_a_wildcards_health_is_asked_for_under_a_name_that_exists(release: Callable[..., Any]) -> None:
    assert sent(release())["health"]["host"] == "blog.example"


def test_a_host_that_lacks_the_source_is_sent_it(release: Callable[..., Any]) -> None:
    action = release()
    sent = []
    action._transfer_file = lambda local, remote: sent.append(Path(local).read_bytes()) or "/tmp/there.tar.gz"
    action._execute_module.side_effect = [{"needs_archive": True}, {"changed": True}]
    assert action.run(task_vars=HOST) == {"changed": True}
    assert sent[0][:2] == b"\x1f\x8b"
    assert action._execute_module.call_args.args[1]["archive"] == "/tmp/there.tar.gz"


def test_a_host_that_has_the_source_is_sent_nothing(release: Callable[..., Any]) -> None:
    action = release()
    action._transfer_file = MagicMock()
    action.run(task_vars=HOST)
    assert not action._transfer_file.called
    assert "archive" not in action._execute_module.call_args.args[1]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"source": {"path": "/no/such/folder"}}, "/no/such/folder"),
        ({"requirements": "lock.txt"}, "there is no file .*/blog/lock.txt"),
    ],
)
def test_a_source_that_cannot_be_packed_is_named_with_its_app(
    release: Callable[..., Any], changed: dict[str, Any], words: str
) -> None:
    with pytest.raises(AnsibleActionFail, match=rf"flask_apps\.blog: .*{words}"):
        release(**changed).run(task_vars=HOST)
