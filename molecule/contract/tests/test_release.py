"""The tarball of a version works by itself, without a repository around it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from conftest import PROJECT

VERSION = "9.9.9"


def git(*words: str, cwd: Path) -> None:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.invalid"]
    subprocess.run(["git", *identity, *words], cwd=cwd, check=True, capture_output=True)


def make_release(clone: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "GIT_COMMITTER_NAME": "test", "GIT_COMMITTER_EMAIL": "test@example.invalid"}
    command = ["make", "release", f"VERSION={VERSION}"]
    return subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone whose changelog has the version, committed."""
    git("clone", "--quiet", str(PROJECT), str(tmp_path / "clone"), cwd=tmp_path)
    changelog = tmp_path / "clone/CHANGELOG.md"
    changelog.write_text(changelog.read_text().replace("## Unreleased\n", f"## {VERSION} - 2099-01-01\n"))
    git("commit", "--quiet", "--all", "--message=chore: a version", cwd=tmp_path / "clone")
    return tmp_path / "clone"


def test_a_tarball_works_by_itself(clone: Path, tmp_path: Path) -> None:
    made = make_release(clone)
    assert made.returncode == 0, made.stderr
    assert f"flaskfleet-{VERSION}.tar.gz" in made.stdout
    subprocess.run(["tar", "xzf", clone / f".cache/flaskfleet-{VERSION}.tar.gz"], cwd=tmp_path, check=True)
    folder = tmp_path / f"flaskfleet-{VERSION}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    command = ["ansible-playbook", "site.yml", "-i", "inventories/prod", "--list-tasks"]
    listed = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert listed.returncode == 0, listed.stderr
    assert "Rollout | Switch the other hosts" in listed.stdout


def test_the_same_version_makes_the_same_tarball(clone: Path) -> None:
    assert make_release(clone).stdout == make_release(clone).stdout != ""


@pytest.mark.parametrize(
    ("path", "content", "words"),
    [("CHANGELOG.md", "## 1.0.0 - 2099-01-01\n", f'no section "## {VERSION}'), ("new", "", "not committed: commit")],
)
def test_what_is_not_ready_is_refused(clone: Path, path: str, content: str, words: str) -> None:
    (clone / path).write_text(content)
    refused = make_release(clone)
    assert refused.returncode != 0
    assert words in refused.stderr
    assert not (clone / ".cache").exists()
