"""Requirements are read as pip and the lock file's own tool read them, into lines that need no other file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from plugin_utils import exporters, requirements
from plugin_utils.exporters import exported
from plugin_utils.requirements import Required, required
from plugin_utils.sources import Fetched, SourceError

Read = Callable[..., Required]
HASH = f"--hash=sha256:{'0' * 64}"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "blog").mkdir()
    return tmp_path / "blog"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the project's own cache out of the tests."""
    monkeypatch.setattr(exporters, "CACHE", tmp_path / "cache")
    return tmp_path / "cache"


def entry(name: str = "requirements.txt", **options: Any) -> dict[str, Any]:
    return {"requirements": name, "extras": [], "groups": [], "further_requirements": [], "install": False, **options}


@pytest.fixture
def read(source: Path) -> Read:
    """A function that writes a file of requirements and reads it."""

    def read(content: str | bytes, name: str = "requirements.txt", **options: Any) -> Required:
        write(source, name, content)
        return required(Fetched(source, {}), entry(name, **options))

    return read


def write(source: Path, name: str, content: str | bytes) -> Path:
    (source / name).parent.mkdir(parents=True, exist_ok=True)
    (source / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return source / name


# files of requirements


@pytest.mark.parametrize(
    "text",
    [
        "flask\n",
        "flask==3.1 \\\n    --hash=sha256:0\n",
        "--index-url https://pypi.example/simple\nflask-restful\n",
        "-i https://pypi.example/simple\n--no-binary :all:\n--pre\nflask\n",
        "-f https://wheels.example/\nflask\n",
        "thing @ https://example.com/thing-1.0.tar.gz\n",
        "https://example.com/thing-1.0-py3-none-any.whl\n",
        "git+https://example.com/thing@1a2b#egg=thing\n",
        "flask[async,dotenv] >= 3, < 4 ; python_version > '3' # why\n",
        "flask; sys_platform == 'linux' \\\n  and python_version > '3'\n",
        "",
    ],
)
def test_a_file_of_requirements_is_taken_as_it_is(read: Read, text: str) -> None:
    assert read(text) == Required(text)


def test_comments_alone_are_no_requirements(read: Read) -> None:
    assert read("# -r is not here\n\nflask\n  # \\\nclick\n") == Required("flask\nclick\n")


def test_an_editable_repository_is_built_as_any(read: Read) -> None:
    assert read("-e git+https://example.com/thing#egg=thing\n").lines == "git+https://example.com/thing#egg=thing\n"


@pytest.mark.parametrize(
    "content",
    [
        "flask\r\nclick\r\n".encode("utf-8-sig"),
        "flask\r\nclick\r\n".encode("utf-16"),
        b"\xfe\xff" + "flask\nclick\n".encode("utf-16-be"),
        "flask\nclick".encode("utf-32"),
        "# -*- coding: latin-1 -*- é\nflask\nclick".encode("latin-1"),
        "# é\nflask\nclick\n".encode(),
    ],
    ids=["mark and CRLF", "UTF-16 of Windows", "UTF-16, big-endian", "UTF-32", "PEP 263", "UTF-8"],
)
def test_a_file_is_read_in_its_encoding(read: Read, content: bytes) -> None:
    lines = read(content).lines.splitlines()
    assert [line for line in lines if not line.startswith("#")] == ["flask", "click"]


def test_a_file_that_is_no_text_is_refused_by_line(read: Read, source: Path) -> None:
    with pytest.raises(SourceError, match=rf"^{source}/requirements.txt:2: it is no text in utf-8; save the file as"):
        read(b"flask\ncaf\xe9\n")


def test_other_files_are_read_relative_to_the_file_that_names_them(read: Read, source: Path) -> None:
    write(source, "requirements/common.txt", "flask\n-r sub/deep.txt")
    write(source, "requirements/sub/deep.txt", "click\n-r ../../top.txt\n-c ../limits.txt\n")
    write(source, "top.txt", "rich\n")
    write(source, "requirements/limits.txt", "click<9\n-r more.txt\n")
    write(source, "requirements/more.txt", "simplejson<3.20\n")
    found = read("-rcommon.txt\n--constraint=limits.txt\nsimplejson\n", "requirements/prod.txt")
    assert found.lines == "flask\nclick\nrich\nsimplejson\n"
    assert found.constraints == "click<9\nsimplejson<3.20\n" * 2


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("-r ../base.txt", "is not below the source; copy it there"),
        ("-r /etc/base.txt", "is not below the source"),
        ("-r link.txt", "is not below the source"),
        ("-r https://example.com/base.txt", "there is no file"),
        ("-c pins.txt", "there is no file .*/blog/pins.txt"),
        ("-r requirements.txt", "is read already, and would be read for ever"),
        ("-r circle.txt", "is read already"),
        ("-e ./lib", r"is a path, which hosts do not have; build a wheel of it"),
        ("./lib", "is a path"),
        ("lib/", "is a path"),
        ("../lib", "is a path"),
        ("/opt/thing.whl", "is a path"),
        ("thing-1.0-py3-none-any.whl", "is a path"),
        ("file:///opt/thing.whl", "is a path"),
        ("thing @ file:///opt/thing.whl", "is a path"),
        ("-f wheels", "can't be used here; remove it, or name wheels"),
        ("--target=/x", "can't be used here"),
        ("--index-url https://${USER}@pypi.example", r"needs the variable \$\{USER\}, which no host has; write its"),
        ("flask=3", "can't be read: .*; write it as in PEP 508"),
        ("<<<<<<< HEAD", "can't be read"),
        ("uwsgi", "would replace the uWSGI that was built for hosts; remove it"),
        ("uWSGI==2.0.21", "would replace the uWSGI"),
        (" uwsgi>=2 ; python_version > '3'", "would replace the uWSGI"),
    ],
)
def test_a_line_that_cannot_be_read_is_refused_by_file_and_line(
    read: Read, source: Path, line: str, words: str
) -> None:
    write(source.parent, "base.txt", "")
    (source / "link.txt").symlink_to("../base.txt")
    write(source, "circle.txt", "-r requirements.txt")
    with pytest.raises(SourceError, match=words) as raised:
        read(f"flask\n\n{line}\n")
    assert str(raised.value).startswith(f"{source}/{'circle.txt:1' if 'circle' in line else 'requirements.txt:3'}: ")


def test_a_missing_file_is_named(source: Path) -> None:
    with pytest.raises(SourceError, match=f"there is no file {source}/lock.txt; name one below the source"):
        required(Fetched(source, {}), entry("lock.txt"))


LOCKED = """\
flask==3.1 \\
    --hash=sha256:0
# a comment

--index-url https://pypi.example/simple
werkzeug==3 --hash=sha256:1
"""


def test_a_lock_file_with_all_hashes_is_taken_as_it_is(read: Read) -> None:
    assert read(LOCKED, "lock.txt").lines == LOCKED.replace("# a comment\n\n", "")


@pytest.mark.parametrize("line", ["click==8.1", "  click==8.1 ", "click \\\n    ==8.1"])
def test_a_line_without_a_hash_beside_others_is_refused_by_file_and_line(read: Read, source: Path, line: str) -> None:
    """Pip would refuse it on the host that builds."""
    with pytest.raises(SourceError, match=rf"^{source}/lock.txt:7: 'click *==8.1' has no --hash, and others have, "):
        read(f"{LOCKED}{line}\n", "lock.txt")


# further requirements


def test_further_requirements_come_with_any_source(read: Read) -> None:
    further = {"further_requirements": ["setuptools", "psycopg2-binary==2.9.*"]}
    assert read("flask", **further).lines == "flask\nsetuptools\npsycopg2-binary==2.9.*\n"
    package = entry(source={"package": "isso==0.13.0"}, **further)
    assert required(Fetched(None, {}), package).lines == "isso==0.13.0\nsetuptools\npsycopg2-binary==2.9.*\n"


def test_further_requirements_need_hashes_if_others_have_them(read: Read) -> None:
    with pytest.raises(SourceError, match=r"^further_requirements: 'click==8' has no --hash, and others have"):
        read(LOCKED, further_requirements=["click==8"])
    assert read(LOCKED, further_requirements=[f"click==8 {HASH}"]).lines.endswith(f"click==8 {HASH}\n")


@pytest.mark.parametrize("line", ["-r more.txt", "uwsgi", ".", "./x"])
def test_further_requirements_of_a_package_name_no_files(line: str) -> None:
    with pytest.raises(SourceError, match=rf"^further_requirements: '{line}'"):
        required(Fetched(None, {}), entry(source={"package": "isso==1"}, further_requirements=[line]))


@pytest.mark.parametrize("options", [{"install": True}, {"extras": ["mail"]}, {"groups": ["prod"]}])
def test_a_package_has_no_project_to_install(options: dict[str, Any]) -> None:
    with pytest.raises(SourceError, match=r"^install, extras and groups are of a source; leave them out"):
        required(Fetched(None, {}), entry(source={"package": "isso==1"}, **options))


def test_uwsgi_itself_is_no_package() -> None:
    with pytest.raises(SourceError, match=r"^source.package: 'uwsgi==2' would replace the uWSGI"):
        required(Fetched(None, {}), entry(source={"package": "uwsgi==2"}))


# the project itself

PROJECT = """\
[project]
name = "Blog_app"
dependencies = ["flask>=3"]
[project.optional-dependencies]
mail = ["flask-mail"]
PG = ["psycopg2"]
all = ["blog-app[mail,pg]", "rich"]
[dependency-groups]
base = ["gevent"]
prod = [{include-group = "base"}, "sentry-sdk"]
"""


@pytest.mark.parametrize(
    ("line", "extras", "lines"),
    [
        (".", "", "flask>=3\n"),
        ("-e .", "", "flask>=3\n"),
        ("--editable=./", "", "flask>=3\n"),
        ("-e .[mail]", "[mail]", "flask>=3\nflask-mail\n"),
        (".[mail, PG]  # all", "[PG,mail]", "flask>=3\npsycopg2\nflask-mail\n"),
    ],
)
def test_the_project_itself_is_a_requirement(read: Read, source: Path, line: str, extras: str, lines: str) -> None:
    write(source, "pyproject.toml", PROJECT)
    found = read(f"rich\n{line}\n")
    assert (found.project, found.resolved) == (extras, True)
    assert sorted(found.lines.splitlines()) == sorted(f"rich\n{lines}".splitlines())


def test_the_project_is_installed_if_install_is_set(read: Read, source: Path) -> None:
    write(source, "pyproject.toml", PROJECT)
    assert read("rich\n").project is None
    assert read("rich\n", install=True, extras=["mail"]) == Required("rich\nflask>=3\nflask-mail\n", "", "[mail]")
    assert required(Fetched(source, {}), entry(".")) == Required("flask>=3\n", "", "")
    assert read(PROJECT, "pyproject.toml", install=True) == Required("flask>=3\n", "", "")


def test_a_lock_with_hashes_has_what_the_project_needs(read: Read, source: Path) -> None:
    write(source, "pyproject.toml", PROJECT)
    assert read(f"{LOCKED}-e .\n") == read(LOCKED)._replace(project="")


@pytest.mark.parametrize("project", ["", '[project]\ndynamic = ["dependencies"]\n', "[tool.poetry]\n"])
def test_a_project_may_have_dynamic_dependencies(read: Read, source: Path, project: str) -> None:
    if project:
        write(source, "pyproject.toml", project)
    assert read("rich\n-e .\n") == Required("rich\n", "", "", resolved=False)
    assert read(LOCKED, install=True).resolved


# pyproject.toml


@pytest.mark.parametrize(
    ("project", "expected"),
    [
        ('dependencies = ["flask>=3", "gunicorn"]', "flask>=3\ngunicorn\n"),
        ("dependencies = []", ""),
        ('name = "blog"', ""),
        ('dynamic = ["version"]\ndependencies = ["flask"]', "flask\n"),
    ],
)
def test_the_dependencies_of_a_pyproject_are_read(read: Read, project: str, expected: str) -> None:
    assert read(f"[project]\n{project}\n", "pyproject.toml") == Required(expected)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"extras": ["mail"]}, ["flask-mail"]),
        ({"extras": ["pg", "mail"]}, ["psycopg2", "flask-mail"]),
        ({"extras": ["all"]}, ["rich", "flask-mail", "psycopg2"]),
        ({"groups": ["base"]}, ["gevent"]),
        ({"groups": ["prod"]}, ["gevent", "sentry-sdk"]),
    ],
)
def test_extras_and_groups_of_a_pyproject_are_read(read: Read, options: dict[str, Any], expected: list[str]) -> None:
    assert read(PROJECT, "pyproject.toml", **options).lines.splitlines() == ["flask>=3", *expected]


def test_groups_need_no_project(read: Read) -> None:
    assert read('[dependency-groups]\nprod = ["flask"]\n', "pyproject.toml", groups=["prod"]).lines == "flask\n"


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ('[project]\ndynamic = ["dependencies"]\n', {}, "its dependencies are dynamic; name a lock file, or install:"),
        ("[tool.poetry]\n", {}, r"it has no \[project\]; name a lock file"),
        ("[project\n", {}, "it can't be read: "),
        (PROJECT, {"extras": ["post"]}, "there is no extra 'post'; it has all, mail, pg"),
        (PROJECT, {"groups": ["dev"]}, "dependency-groups: .*dev"),
        ('[project]\ndependencies = ["flask=3"]\n', {}, "dependencies: 'flask=3' can't be read"),
        ('[project]\ndependencies = ["uwsgi"]\n', {}, "dependencies: 'uwsgi' would replace"),
        ('[dependency-groups]\na = [{include-group = "a"}]\n', {"groups": ["a"]}, "dependency-groups: .*[Cc]yclic"),
    ],
)
def test_a_pyproject_that_cannot_be_read_is_refused_by_name(
    read: Read, source: Path, text: str, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(SourceError, match=f"^{source}/pyproject.toml: {words}"):
        read(text, "pyproject.toml", **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"groups": ["dev"]}, "groups are of a pyproject.toml or a lock file; leave them out"),
        ({"extras": ["mail"]}, "extras are of the project, which it does not name; add install: true"),
    ],
)
def test_extras_and_groups_of_a_plain_file_are_refused(
    read: Read, source: Path, options: dict[str, Any], words: str
) -> None:
    write(source, "pyproject.toml", PROJECT)
    with pytest.raises(SourceError, match=f"^{source}/requirements.txt: {words}"):
        read("flask\n", **options)


def test_extras_are_those_of_the_project_that_a_plain_file_names(read: Read, source: Path) -> None:
    write(source, "pyproject.toml", PROJECT)
    assert read("-e .[pg]\n", extras=["mail"]).project == "[mail,pg]"


# lock files

PYLOCK = f"""\
lock-version = "1.0"
created-by = "hand"
extras = ["pg"]
dependency-groups = ["prod", "dev"]
default-groups = ["dev"]
[[packages]]
name = "flask"
version = "3.1.3"
index = "https://pypi.org/simple"
sdist = {{ url = "https://x.example/flask-3.1.3.tar.gz", hashes = {{ sha256 = "{"1" * 64}" }} }}
wheels = [{{ url = "https://x.example/flask-3.1.3-py3-none-any.whl", hashes = {{ sha256 = "{"0" * 64}" }} }}]
[[packages]]
name = "psycopg2"
version = "2.9"
marker = "'pg' in extras and sys_platform == 'linux'"
sdist = {{ url = "https://x.example/psycopg2-2.9.tar.gz", hashes = {{ sha256 = "{"2" * 64}" }} }}
[[packages]]
name = "pytest"
version = "8"
marker = "'dev' in dependency_groups or 'prod' not in dependency_groups"
wheels = [{{ url = "https://x.example/pytest-8-py3-none-any.whl", hashes = {{ sha256 = "{"3" * 64}" }} }}]
[[packages]]
name = "own"
archive = {{ url = "https://x.example/own-1.0.tar.gz", hashes = {{ sha256 = "{"4" * 64}" }} }}
"""


@pytest.mark.parametrize("name", ["pylock.toml", "pylock.prod.toml"])
def test_a_pylock_is_read_with_the_hashes_of_all_files(read: Read, name: str) -> None:
    assert read(PYLOCK, name).lines.splitlines() == [
        f"flask==3.1.3 --hash=sha256:{'0' * 64} --hash=sha256:{'1' * 64}",
        f"psycopg2==2.9 ; python_version < '3' and sys_platform == \"linux\" --hash=sha256:{'2' * 64}",
        f"pytest==8 ; python_version >= '3' or python_version >= '3' --hash=sha256:{'3' * 64}",
        f"own @ https://x.example/own-1.0.tar.gz --hash=sha256:{'4' * 64}",
    ]


def test_extras_and_groups_of_a_pylock_are_read(read: Read) -> None:
    _, psycopg2, pytest_, _ = read(PYLOCK, "pylock.toml", extras=["pg"], groups=["prod"]).lines.splitlines()
    assert psycopg2.startswith("psycopg2==2.9 ; python_version >= '3' and sys_platform")
    assert pytest_.startswith("pytest==8 ; python_version < '3' or python_version < '3' --hash")


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("lock-version = '1.0'\n", {}, "it can't be read: Missing required value in 'created-by'; write it anew"),
        (PYLOCK, {"extras": ["mail"]}, "it was locked without mail; lock it with them"),
        (PYLOCK, {"groups": ["test"]}, "it was locked without test"),
        (f"{PYLOCK}[[packages]]\nname = 'lib'\ndirectory = {{path = './lib'}}\n", {}, "lib is a path or a repository"),
    ],
)
def test_a_pylock_that_cannot_be_used_is_refused_by_name(
    read: Read, source: Path, text: str, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(SourceError, match=f"^{source}/pylock.toml: {words}"):
        read(text, "pylock.toml", **options)


UV_PROJECT = """\
[project]
name = "blog"
version = "1.0"
requires-python = ">=3.99"
dependencies = ["flask"]
[project.optional-dependencies]
pg = ["psycopg2"]
[dependency-groups]
dev = ["pytest"]
"""


def uv_package(name: str, digit: str) -> str:
    wheel = f"https://x.example/{name}-1.0-py3-none-any.whl"
    return f"""\
[[package]]
name = "{name}"
version = "1.0"
source = {{ registry = "https://pypi.org/simple" }}
wheels = [{{ url = "{wheel}", hash = "sha256:{digit * 64}", size = 1 }}]
"""


UV_LOCK = f"""\
version = 1
revision = 3
requires-python = ">=3.99"
[[package]]
name = "blog"
version = "1.0"
source = {{ editable = "." }}
dependencies = [{{ name = "flask" }}]
[package.optional-dependencies]
pg = [{{ name = "psycopg2" }}]
[package.dev-dependencies]
dev = [{{ name = "pytest" }}]
{uv_package("flask", "1")}{uv_package("psycopg2", "2")}{uv_package("pytest", "3")}"""


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ["flask"]),
        ({"extras": ["pg"]}, ["flask", "psycopg2"]),
        ({"groups": ["dev"]}, ["flask", "pytest"]),
    ],
)
def test_a_lock_of_uv_is_exported_by_uv(
    read: Read, source: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], names: list[str]
) -> None:
    """Without a network, without the Python that the project wants, and without a trace in the source."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    write(source, "pyproject.toml", UV_PROJECT)
    found = read(UV_LOCK, "uv.lock", **options)
    assert [line.split("==")[0] for line in found.lines.splitlines() if not line.startswith(" ")] == names
    assert found.lines.count("--hash=sha256:") == len(names)
    assert sorted(path.name for path in source.iterdir()) == ["pyproject.toml", "uv.lock"]


def test_a_refusal_has_the_tools_output(read: Read, source: Path) -> None:
    write(source, "pyproject.toml", UV_PROJECT)
    with pytest.raises(SourceError, match=f"^{source}/uv.lock: its tool says: .*mail"):
        read(UV_LOCK, "uv.lock", extras=["mail"])
    with pytest.raises(SourceError, match=f"^{source}/uv.lock: its tool says: "):
        read("version = 99\n", "uv.lock")


@pytest.mark.parametrize(("name", "of"), [(name, of) for name, (_, of) in exporters.EXPORTERS.items()])
def test_a_lock_without_what_it_locks_is_refused(read: Read, source: Path, name: str, of: str) -> None:
    with pytest.raises(SourceError, match=f"^{source}/{name}: there is no {of} beside it, which it locks"):
        read("", name)


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment with tools that print how they were asked, where, and what they know of the user."""
    script = write(tmp_path, "made/bin/python", '#!/bin/sh\necho "called $PWD $HOME" >> "$0.log"\necho "flask==1 $*"\n')
    script.chmod(0o755)
    monkeypatch.setattr(exporters, "_environment", lambda: tmp_path / "made")
    return tmp_path / "made/bin/python.log"


def test_a_lock_is_exported_once(source: Path, tool: Path) -> None:
    lock = write(source, "Pipfile.lock", "{}")
    write(source, "Pipfile", "")
    assert exported(lock, [], ["prod"]) == exported(lock, [], ["prod"])
    assert len(tool.read_text().splitlines()) == 1
    for name in ("Pipfile", "Pipfile.lock"):
        write(source, name, "[packages]\n")
        exported(lock, [], ["prod"])
    assert exported(lock, [], []).endswith("requirements --hash --exclude-index --categories packages\n")
    assert len(tool.read_text().splitlines()) == 4


def test_a_tool_has_a_home_of_its_own(source: Path, tool: Path, cache: Path) -> None:
    write(source, "pyproject.toml", "")
    exported(write(source, "poetry.lock", ""), ["pg"], ["prod"])
    assert tool.read_text().split() == ["called", str(source), str(cache / "exported/aside")]


def test_a_tool_that_cannot_be_run_is_reported(source: Path, tool: Path) -> None:
    tool.with_suffix("").unlink()
    write(source, "pyproject.toml", "")
    with pytest.raises(SourceError, match=f"^{source}/poetry.lock: .*/bin/python can't be run: "):
        exported(write(source, "poetry.lock", ""), [], [])


def test_a_pipfile_has_no_extras(source: Path, tool: Path) -> None:
    write(source, "Pipfile", "")
    with pytest.raises(SourceError, match=r"extras are not of a Pipfile.lock; leave them out"):
        exported(write(source, "Pipfile.lock", ""), ["pg"], [])


def test_the_tools_are_pinned_and_made_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def run(argv: list[str], folder: Path, home: Path | None) -> str:
        calls.append(argv[1:])
        Path(argv[-1]).mkdir(exist_ok=True) if "venv" in argv else None
        return ""

    monkeypatch.setattr(exporters, "_run", run)
    assert exporters._environment() == exporters._environment()
    assert len(calls) == 2
    assert "--require-hashes" in calls[1]


def test_the_pins_have_hashes() -> None:
    text = exporters.PINNED.read_text()
    assert {"poetry", "poetry-plugin-export", "pipenv"} <= {line.split("==")[0] for line in text.splitlines()}
    assert text.count("==") > 40
    requirements._Reader(None).add(text, str(exporters.PINNED))
