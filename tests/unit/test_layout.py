"""What of an app lies on a host: a release is staged as a whole or not at all, copied, found, pruned, never edited."""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible.module_utils.flaskfleet import (
    environments,
    manifest,
    pruning,
    secret_files,
    staging,
    static_links,
    warm_up,
)
from ansible.module_utils.flaskfleet.app import App
from ansible.module_utils.flaskfleet.environments import Environment, EnvironmentFailed
from ansible.module_utils.flaskfleet.files import write_json
from ansible.module_utils.flaskfleet.journal import Journal
from ansible.module_utils.flaskfleet.paths import AppPaths, ReleaseFailed
from ansible.module_utils.flaskfleet.secret_files import Secrets
from examples import APP_ID, ENV, NO_SECRETS, SECRETS, STATIC, WEB_ID, A, B, C, D, make_release, of_a_package
from interruption import interruptions
from plugin_utils.packing import pack
from plugin_utils.release_contents import contents

Owners = dict[str, tuple[int, int]]
RELEASE = make_release(A)


@pytest.fixture
def staged(stage: Callable[..., Path]) -> Path:
    """Where the release lies."""
    return stage(A)


@pytest.fixture
def prepared(app: App) -> App:
    """The app with its directories, and none of its releases."""
    staging.prepare(app.paths)
    return app


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "Blog", "blog\n"])
def test_a_name_that_would_lead_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ReleaseFailed, match="is no app's name"):
        AppPaths(name, tmp_path)


def mode(path: Path) -> str:
    return oct(path.stat().st_mode)[-4:]


def lay(app: App, *names: str) -> None:
    """Put releases on disk, each with an environment and a log of its own."""
    app.paths.logs.mkdir(parents=True, exist_ok=True)
    for name in names:
        app.paths.path(name).mkdir(parents=True)
        (app.paths.home / "venvs" / name).mkdir(parents=True)
        (app.paths.path(name) / "venv").symlink_to(f"../../venvs/{name}")
        (app.paths.logs / f"{name}.log").touch()


def lived(app: App, *names: str, voided: tuple[str, ...] = ()) -> None:
    """Record that releases were live in this order, on a host whose clock went backwards."""
    journal = Journal(app.paths.journal_file, None)
    journal.history = [{"release": name, "since": f"2026-11-{30 - day}"} for day, name in enumerate(names)]
    journal.voided = {name: {"since": "2026-11-01", "by": "me"} for name in voided}
    journal.save()
    (app.paths.home / "current").symlink_to(f"releases/{names[-1]}")


# prepared


def test_prepare_creates_the_apps_folders_with_their_owners(app: App, owners: Owners) -> None:
    staging.prepare(app.paths)
    assert {
        str(path): (mode(path), owners[str(path)])
        for path in [*app.paths.home.iterdir(), app.paths.logs, app.paths.trial]
    } == {
        f"{app.paths.home}/releases": ("0755", (0, 0)),
        f"{app.paths.home}/venvs": ("0750", (0, APP_ID)),
        f"{app.paths.home}/secrets": ("0750", (0, APP_ID)),
        f"{app.paths.home}/shared": ("0750", (APP_ID, APP_ID)),
        str(app.paths.logs): ("0750", (0, APP_ID)),
        str(app.paths.trial): ("0755", (0, 0)),
    }


OTHERS = Secrets("6" * 12, {"KEY": "0ther", "LINES": "one\ntwo\n", "EMPTY": "", "SNOWMAN": "☃"}, {})


def secrets_of(app: App, release: str) -> dict[str, str]:
    """The secrets that a release reads at its start."""
    folder = app.paths.path(release) / "secrets"
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_secrets_are_readable_for_root_and_the_app_alone(prepared: App, owners: Owners) -> None:
    secret_files.store(prepared.paths, SECRETS)
    kept = prepared.paths.home / "secrets" / SECRETS.id
    assert (kept / "env/KEY").read_text() == "s3cret\n"
    assert (kept / "files/instance/config.py").read_text() == "KEY = 's3cret'\n"
    assert {mode(path) for path in [kept, *kept.rglob("*")] if path.is_dir()} == {"0750"}
    assert {mode(path) for path in kept.rglob("*") if path.is_file()} == {"0640"}
    aside = str(prepared.paths.home / "secrets" / f".{SECRETS.id}")
    assert {owner for path, owner in owners.items() if path.startswith(aside)} == {(0, APP_ID)}


def test_secrets_of_one_release_are_not_those_of_another(app: App, stage: Callable[..., Path]) -> None:
    """After a refused deploy the live release still has the secrets of its start."""
    for release, secrets in ((A, SECRETS), (B, OTHERS)):
        stage(release)
        warm_up.provide_files(app, release, secrets)
    assert secrets_of(app, A) == {name: content.decode() for name, content in SECRETS.contents.items()}
    assert secrets_of(app, B) == {name: content.decode() for name, content in OTHERS.contents.items()}


def test_secrets_that_no_release_has_are_removed(app: App, stage: Callable[..., Path]) -> None:
    for release, secrets in ((A, SECRETS), (B, OTHERS)):
        stage(release)
        warm_up.provide_files(app, release, secrets)
    warm_up.discard(app, B)
    assert os.listdir(app.paths.home / "secrets") == [SECRETS.id]


@pytest.mark.parametrize("secrets", [NO_SECRETS, SECRETS, OTHERS])
def test_secrets_that_are_the_same_are_not_written(prepared: App, secrets: Secrets) -> None:
    assert secret_files.store(prepared.paths, secrets)
    before = {path: path.stat().st_ino for path in (prepared.paths.home / "secrets").rglob("*")}
    assert not secret_files.store(prepared.paths, secrets)
    assert {path: path.stat().st_ino for path in (prepared.paths.home / "secrets").rglob("*")} == before


@pytest.mark.parametrize("name", ["env/KEY", "files/instance/config.py"])
@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_text("edited")], ids=["removed", "edited"])
def test_secrets_that_were_damaged_are_repaired(prepared: App, name: str, damage: Callable[[Path], object]) -> None:
    secret_files.store(prepared.paths, SECRETS)
    damage(prepared.paths.home / "secrets" / SECRETS.id / name)
    assert secret_files.store(prepared.paths, SECRETS)
    assert (prepared.paths.home / "secrets" / SECRETS.id / name).read_bytes() == SECRETS.contents[name]


def test_interrupted_secrets_are_complete_after_the_next_run(prepared: App) -> None:
    for number in interruptions(lambda _: secret_files.store(prepared.paths, SECRETS)):
        secret_files.store(prepared.paths, SECRETS)
        found = prepared.paths.home / "secrets" / SECRETS.id
        assert (found / "env/KEY").read_text() == "s3cret\n", f"interrupted before step {number}"
        shutil.rmtree(found)


def test_a_release_whose_secrets_were_removed_is_drift(app: App, switch: Callable[..., App]) -> None:
    switch(A)
    shutil.rmtree(app.paths.home / "secrets" / NO_SECRETS.id)
    assert manifest.edited(app.paths, A) == [f"{app.paths.path(A)}/secrets was removed"]


# shared paths


SHARING = {"shared_paths": ["instance", "data/app.db", "blog/static/media"]}


@pytest.fixture
def sharing(app: App, archive: Path, environment: Environment, tmp_path: Path) -> App:
    """The app with a release that has shared paths, some of them in its source."""
    source = tmp_path / "source"
    for name, content in {
        "instance/seed.txt": "from the source",
        "blog/static/media/logo.svg": "<svg/>",
        "blog/static/a.css": "a",
        "icons/favicon.ico": "icon",
    }.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(content)
    pack(source, contents(source).files, STATIC, tmp_path / "sharing.tar.gz")
    staging.prepare(app.paths)
    release = replace(
        make_release(A, **SHARING),
        own_files={"config.py": "A = 1\n", "instance/motd": "hi"},
        secret_files=("secret.py", "instance/key"),
    )
    staging.stage(app.paths, release, tmp_path / "sharing.tar.gz", environment)
    warm_up.provide_files(app, A, replace(SECRETS, files={"secret.py": "S = 1", "instance/key": "k"}))
    return app


def test_shared_paths_lead_out_of_the_release(sharing: App) -> None:
    src = sharing.paths.path(A) / "src"
    for path, place in {
        "instance": "shared/instance",
        "data/app.db": "shared/data/app.db",
        "blog/static/media": "media/static/media",
    }.items():
        assert os.path.realpath(src / path) == os.path.realpath(sharing.paths.home / place), path


def test_shared_paths_have_what_the_source_has_there(sharing: App) -> None:
    assert (sharing.paths.home / "shared/instance/seed.txt").read_text() == "from the source"
    assert (sharing.paths.home / "media/static/media/logo.svg").read_text() == "<svg/>"
    assert (sharing.paths.home / "shared/data").is_dir()
    assert not (sharing.paths.home / "shared/data/app.db").exists()  # the app makes its file


def test_an_existing_shared_path_is_not_seeded_again(sharing: App) -> None:
    for place in ("shared/instance/seed.txt", "media/static/media/logo.svg"):
        (sharing.paths.home / place).write_text("changed by the app")
    warm_up.provide_files(sharing, A, SECRETS)
    for place in ("shared/instance/seed.txt", "media/static/media/logo.svg"):
        assert (sharing.paths.home / place).read_text() == "changed by the app"


def test_the_apps_user_creates_the_apps_own_folders(sharing: App, as_me: list[tuple[int, int, list[str]]]) -> None:
    """The folders above may lead elsewhere by then: the app's user can write them."""
    made = {word for uid, _, argv in as_me if uid == APP_ID for word in argv}
    assert {
        str(sharing.paths.home / place) for place in ("shared/var", "shared/instance", "shared/data/app.db")
    } <= made


def test_a_media_folder_is_in_nginxs_group_and_below_folders_of_root(sharing: App, owners: Owners) -> None:
    folder = sharing.paths.home / "media/static/media"
    assert (mode(folder), owners[f"{folder.parent}/.media.new"]) == ("2750", (APP_ID, WEB_ID))
    assert str(folder.parent) not in owners


def test_files_of_the_inventory_are_part_of_the_release(sharing: App) -> None:
    release = sharing.paths.path(A)
    assert (release / "src/config.py").read_text() == "A = 1\n"
    assert (release / "files/instance/motd").read_text() == "hi"
    assert (release / "src/secret.py").read_text() == "S = 1"
    assert os.readlink(release / "src/secret.py") == "../secrets/files/secret.py"


def test_a_copy_shares_what_the_release_shares(sharing: App) -> None:
    name = staging.copy(sharing.paths, A)
    warm_up.provide_files(sharing, name, SECRETS)
    assert (sharing.paths.path(name) / "src/instance/seed.txt").read_text() == "from the source"
    assert (sharing.paths.path(name) / "files/instance/motd").read_text() == "hi"


def test_a_folder_that_the_app_cannot_create_is_reported(app: App, stage: Callable[..., Path]) -> None:
    stage(A)
    (app.paths.home / "shared/uploads").write_text("a file")
    record = app.paths.record(A)
    record["inputs"]["entry"]["shared_paths"] = ["uploads/here"]
    write_json(app.paths.path(A) / "release.json", record)
    with pytest.raises(
        ReleaseFailed, match=r"^blog: shared_paths: uploads/here can't be made at .*File exists|Not a dir"
    ):
        warm_up.provide_files(app, A, NO_SECRETS)


def test_root_creates_no_folder_below_one_that_the_app_writes(sharing: App, tmp_path: Path) -> None:
    """An earlier release has shared the folder above as a whole: by now there may be links in it."""
    (tmp_path / "etc").mkdir()
    (sharing.paths.home / "media/static/media/sub").symlink_to(tmp_path / "etc")
    record = sharing.paths.record(A)
    record["inputs"]["entry"]["shared_paths"] = ["blog/static/media/sub/deeper"]
    write_json(sharing.paths.path(A) / "release.json", record)
    with pytest.raises(ReleaseFailed, match="which the app writes"):
        warm_up.provide_files(sharing, A, NO_SECRETS)
    assert list((tmp_path / "etc").iterdir()) == []


def test_prepare_leaves_what_the_app_has_written(prepared: App) -> None:
    (prepared.paths.home / "shared" / "db.sqlite").write_text("rows")
    staging.prepare(prepared.paths)
    assert (prepared.paths.home / "shared" / "db.sqlite").read_text() == "rows"


def test_prepare_of_an_unknown_user_is_a_key_error(app: App) -> None:
    app.paths.name = "nobody-has-this-name"
    with pytest.raises(KeyError):
        staging.prepare(app.paths)


@pytest.fixture
def shared(prepared: App, owners: Owners) -> list[str]:
    """The paths below ``shared``, which has been another user's."""
    folder = prepared.paths.home / "shared"
    (folder / "uploads").mkdir()
    (folder / "uploads" / "a.png").touch()
    (folder / "link").symlink_to(prepared.paths.home / "venvs")
    paths = [str(path) for path in (folder, *folder.rglob("*"))]
    owners.update(dict.fromkeys(paths, (4711, 4711)))
    return paths


def test_files_of_an_earlier_user_become_the_apps(prepared: App, shared: list[str], owners: Owners) -> None:
    """The link itself changes its owner, and not its target."""
    staging.prepare(prepared.paths)
    assert {owners[path] for path in shared} == {(APP_ID, APP_ID)}
    assert owners[f"{prepared.paths.home}/venvs"] == (0, APP_ID)


def test_an_interrupted_change_of_owner_is_finished(prepared: App, shared: list[str], owners: Owners) -> None:
    for number in interruptions(lambda _: staging.prepare(prepared.paths)):
        staging.prepare(prepared.paths)
        assert {owners[path] for path in shared} == {(APP_ID, APP_ID)}, f"interrupted before step {number}"
        owners.update(dict.fromkeys(shared, (4711, 4711)))


def test_folders_that_the_app_owns_are_not_searched(prepared: App, shared: list[str], owners: Owners) -> None:
    """It may be large."""
    staging.prepare(prepared.paths)
    owners[shared[-1]] = (0, 0)
    staging.prepare(prepared.paths)
    assert owners[shared[-1]] == (0, 0)


# staged


def test_a_release_has_everything_that_makes_it_run(staged: Path) -> None:
    assert {path.name for path in staged.iterdir()} == {
        "src", "static", "next", "previous", "env", "run", "venv", "uwsgi.ini", "supervisor.conf", "programs.conf",
        "exec", "serve", "release.json", "manifest.json", "files", "seed", "secrets",
    }  # fmt: skip


def static_files(folder: Path) -> dict[str, tuple[int, str]]:
    """The files below a folder by their path, each with its inode and content."""
    return {
        str(path.relative_to(folder)): (path.stat().st_ino, path.read_text())
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def met(app: App, staged: Path, archive: Path, environment: Environment) -> App:
    """The app with A live and B warm."""
    (app.paths.home / "current").symlink_to(f"releases/{A}")
    staging.stage(app.paths, make_release(B), archive, environment)
    (app.paths.path(B) / "static/static/new.css").write_text("new {}")
    static_links.link(app.paths, B)
    return app


@pytest.mark.parametrize(("one", "neighbour", "other"), [(A, "next", B), (B, "previous", A)])
def test_the_live_and_the_next_release_have_each_others_static_files(
    met: App, one: str, neighbour: str, other: str
) -> None:
    """uWSGI serves no file outside a map's own folder, and a path with %2e%2e in it none that is not meant."""
    found = static_files(met.paths.path(one) / neighbour)
    assert found == static_files(met.paths.path(other) / "static")
    assert found


def test_linking_static_files_again_replaces_the_links(met: App) -> None:
    (met.paths.path(B) / "static/static/new.css").unlink()
    static_links.link(met.paths, B)
    assert "static/new.css" not in static_files(met.paths.path(A) / "next")


def test_a_discarded_release_leaves_no_static_files_in_the_live_one(met: App) -> None:
    static_links.unlink(met.paths)
    assert list((met.paths.path(A) / "next").iterdir()) == []


def test_linked_static_files_are_no_drift(met: App) -> None:
    assert manifest.edited(met.paths, A) == []


@pytest.mark.parametrize("live", [None, A])
def test_a_release_is_not_linked_to_itself(app: App, staged: Path, live: str | None) -> None:
    if live:
        (app.paths.home / "current").symlink_to(f"releases/{live}")
    static_links.link(app.paths, A)
    assert [list((staged / neighbour).iterdir()) for neighbour in ("next", "previous")] == [[], []]


def test_the_source_is_unpacked_with_its_executables_and_links(staged: Path) -> None:
    assert (staged / "src/blog/__init__.py").read_text() == "app = None\n"
    assert (mode(staged / "src/blog/__init__.py"), mode(staged / "src/manage")) == ("0644", "0755")
    assert os.readlink(staged / "src/link") == "blog/static/style.css"


def test_the_source_is_compiled_for_its_final_path(staged: Path) -> None:
    (compiled,) = staged.glob("src/blog/__pycache__/*.pyc")
    assert f"{staged}/src/blog/__init__.py".encode() in compiled.read_bytes()


def test_static_files_lie_below_their_url_prefix(staged: Path) -> None:
    static = {str(path.relative_to(staged)): path.read_text() for path in staged.glob("static/**/*.*")}
    assert static == {
        "static/static/style.css": "body {}\n",
        "static/static/img/a.svg": "<svg/>\n",
        "static/favicon/favicon.ico": "icon",
    }


def test_a_static_file_is_a_hard_link_to_the_sources(staged: Path) -> None:
    assert (staged / "static/static/style.css").samefile(staged / "src/blog/static/style.css")


@pytest.mark.parametrize("name", ENV)
def test_a_variable_is_a_file_with_its_value_verbatim(staged: Path, name: str) -> None:
    assert (staged / "env" / name).read_bytes() == f"{ENV[name]}\n".encode()


def test_rendered_files_are_verbatim(staged: Path) -> None:
    assert {name: (staged / name).read_text() for name in RELEASE.files} == RELEASE.files


def test_the_record_is_kept(app: App, staged: Path) -> None:
    assert app.paths.record(A) == RELEASE.record
    assert app.paths.entry(A)["static"] == STATIC


def test_a_missing_release_has_no_record(app: App) -> None:
    assert app.paths.record(A) == {}


def test_the_environment_is_that_of_its_inputs(app: App, staged: Path, environment: Environment) -> None:
    assert (staged / "venv").resolve(strict=True) == app.paths.home / "venvs" / environment.key


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("", "0755"),
        ("static", "0755"),
        ("static/static/img", "0755"),
        ("src/blog", "0755"),
        ("src", "0750"),
        ("env", "0750"),
        ("env/EMPTY", "0640"),
        ("run", "1771"),
        ("uwsgi.ini", "0640"),
        ("supervisor.conf", "0640"),
        ("exec", "0750"),
        ("release.json", "0640"),
        ("manifest.json", "0600"),
    ],
)
@pytest.mark.parametrize("copied", [False, True], ids=["staged", "copied"])
def test_modes_of_a_release(app: App, staged: Path, name: str, expected: str, copied: bool) -> None:
    release = app.paths.path(staging.copy(app.paths, A)) if copied else staged
    assert mode(release / name) == expected


@pytest.mark.parametrize("copied", [False, True], ids=["staged", "copied"])
def test_owners_of_a_release(app: App, staged: Path, owners: Owners, copied: bool) -> None:
    aside = app.paths.path(f".{staging.copy(app.paths, A) if copied else A}")
    assert {
        name: owners[f"{aside}/{name}"]
        for name in ["src", "env", "env/EMPTY", "run", "release.json", "uwsgi.ini", "exec"]
    } == {
        "src": (0, APP_ID),
        "env": (0, APP_ID),
        "env/EMPTY": (0, APP_ID),
        "run": (0, APP_ID),
        "release.json": (0, APP_ID),
        "uwsgi.ini": (0, APP_ID),
        "exec": (0, APP_ID),
    }


def test_a_release_of_an_earlier_version_is_restarted_as_it_was(app: App, staged: Path, owners: Owners) -> None:
    """Its uWSGI makes the socket, in a folder whose group is nginx's."""
    (staged / "serve").unlink()
    name = staging.copy(app.paths, A)
    assert (mode(app.paths.path(name) / "run"), owners[f"{app.paths.path(f'.{name}')}/run"]) == (
        "2750",
        (APP_ID, WEB_ID),
    )


def test_a_staged_release_is_not_live(app: App, staged: Path) -> None:
    assert (app.paths.live(), app.paths.on_disk()) == (None, [A])


# from a package


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each environment has the package ``blog`` with a static file."""

    def build(aside: Path, *inputs: object) -> None:
        static = aside / "lib/python3.11/site-packages/blog/static"
        (static / "img").mkdir(parents=True)
        (static / "img" / "a.svg").write_text("<svg/>")

    monkeypatch.setattr(environments, "_build", build)
    pack(None, [], {}, tmp_path / "package.tar.gz")
    return tmp_path / "package.tar.gz"


def test_a_packages_static_files_are_hard_links(prepared: App, package: Path, environment: Environment) -> None:
    staging.stage(prepared.paths, of_a_package(RELEASE), package, environment)
    release = prepared.paths.path(A)
    (installed,) = release.glob("venv/lib/python*/site-packages/blog/static/img/a.svg")
    assert (release / "static/static/img/a.svg").samefile(installed)


def test_a_static_folder_that_a_package_lacks_is_named(prepared: App, package: Path, environment: Environment) -> None:
    with pytest.raises(ReleaseFailed, match=r"^blog: .*blog/assets"):
        staging.stage(
            prepared.paths, replace(of_a_package(RELEASE), static={"/static": "blog/assets"}), package, environment
        )
    assert list((prepared.paths.home / "releases").iterdir()) == []


# refused


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function that sets how many MB and inodes are free, and whether the file system counts those."""

    def have(free: int, inodes: int = 1_000_000, counted: bool = True) -> None:
        there = SimpleNamespace(f_bavail=free * 1000, f_frsize=1000, f_favail=inodes, f_files=1_000_000 * counted)
        monkeypatch.setattr(os, "statvfs", lambda _: there)

    return have


@pytest.mark.parametrize(("free", "inodes"), [(100, 1_000_000), (1000, 4_000)])
def test_a_release_without_room_is_refused_before_anything_changes(
    prepared: App,
    archive: Path,
    environment: Environment,
    room: Callable[..., None],
    snapshot,
    free: int,
    inodes: int,
) -> None:
    with tarfile.open(archive) as tar:
        files = 5000 + 2 * len(tar.getnames())
    before = snapshot(prepared.paths.home)
    room(free, inodes)
    with pytest.raises(ReleaseFailed) as refused:
        staging.stage(prepared.paths, RELEASE, archive, environment)
    assert str(refused.value) == (
        f"blog: {prepared.paths.home} has {free} MB and {inodes} inodes free, and {A} needs about 150 MB and {files}. "
        "Nothing was changed; make room: lower flask_app_keep_releases and run playbooks/restart.yml, which removes "
        "the oldest releases, or see docs/state-on-hosts.md"
    )
    assert snapshot(prepared.paths.home) == before


def test_a_file_system_that_does_not_count_its_inodes_has_room(
    prepared: App, archive: Path, environment: Environment, room: Callable[..., None]
) -> None:
    room(1000, 0, counted=False)
    staging.stage(prepared.paths, RELEASE, archive, environment)
    assert prepared.paths.path(RELEASE.id).is_dir()


def test_an_existing_environment_needs_no_room(
    app: App, staged: Path, archive: Path, environment: Environment, room: Callable[..., None]
) -> None:
    room(1, 100)
    staging.stage(app.paths, make_release(B), archive, environment)
    room(0)
    with pytest.raises(ReleaseFailed, match="has 0 MB and"):
        staging.stage(app.paths, make_release(C), archive, environment)


@pytest.mark.parametrize(
    ("broken", "error"),
    [
        ({"files": {"no/such/folder": ""}}, FileNotFoundError),
        ({"record": {"source": {}, "inputs": object}}, TypeError),
    ],
    ids=["a file that can't be written", "a record that can't be written"],
)
def test_a_failed_stage_leaves_nothing(
    prepared: App, archive: Path, environment: Environment, broken: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        staging.stage(prepared.paths, replace(RELEASE, **broken), archive, environment)
    assert [path for name in ("releases", "venvs") for path in (prepared.paths.home / name).iterdir()] == []


def test_an_environment_that_fails_leaves_nothing(
    prepared: App, archive: Path, environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise EnvironmentFailed("no such requirement")

    monkeypatch.setattr(environments, "_build", fail)
    with pytest.raises(EnvironmentFailed):
        staging.stage(prepared.paths, RELEASE, archive, environment)
    assert [path for name in ("releases", "venvs") for path in (prepared.paths.home / name).iterdir()] == []


def test_a_failed_stage_keeps_environments_in_use(
    app: App, staged: Path, archive: Path, environment: Environment
) -> None:
    broken = {"no/such/folder": ""}
    for used in (environment, replace(environment, sets=("another",))):
        with pytest.raises(FileNotFoundError):
            staging.stage(app.paths, replace(make_release(B), files=broken), archive, used)
    assert list((app.paths.home / "venvs").iterdir()) == [(staged / "venv").resolve()]


def test_an_interrupted_stage_leaves_nothing_at_the_final_path(
    prepared: App, archive: Path, environment: Environment, snapshot
) -> None:
    """And another run stages it."""
    release = replace(RELEASE, env={"A": "a"})
    final = prepared.paths.path(A)
    expected = None
    for number in interruptions(lambda _: staging.stage(prepared.paths, release, archive, environment)):
        assert not final.exists(), f"interrupted before step {number}"
        staging.stage(prepared.paths, release, archive, environment)
        left = snapshot(prepared.paths.home)
        expected = expected or left
        assert left == expected, f"interrupted before step {number}"
        shutil.rmtree(final)


# copies


@pytest.fixture
def copy(app: App, staged: Path) -> Path:
    return app.paths.path(staging.copy(app.paths, A))


@pytest.mark.parametrize(("release", "name"), [(A, f"{A}.1"), (f"{A}.1", f"{A}.2"), (f"{A}.9", f"{A}.10")])
def test_a_copys_name_has_its_releases_id(app: App, staged: Path, release: str, name: str) -> None:
    if release != A:
        staged.rename(app.paths.path(release))
    assert staging.copy(app.paths, release) == name
    assert app.paths.on_disk() == sorted([release, name])


def test_a_copys_name_is_new(app: App, staged: Path, copy: Path) -> None:
    assert staging.copy(app.paths, A) == f"{A}.2"


def test_a_copy_has_what_a_release_has(staged: Path, copy: Path) -> None:
    def names(release: Path) -> list[str]:
        return sorted(str(path.relative_to(release)) for path in release.rglob("*"))

    assert names(copy) == names(staged)


@pytest.mark.parametrize("name", ["src/blog/__init__.py", "src/manage", "static/static/style.css"])
def test_a_copys_files_are_hard_links(staged: Path, copy: Path, name: str) -> None:
    assert (copy / name).samefile(staged / name)


def test_a_copy_has_the_same_environment(staged: Path, copy: Path) -> None:
    assert (copy / "venv").resolve(strict=True) == (staged / "venv").resolve()


def test_a_copy_has_links_as_they_are(copy: Path) -> None:
    assert os.readlink(copy / "src/link") == "blog/static/style.css"


@pytest.mark.parametrize("name", RELEASE.files)
def test_a_rendered_file_has_the_copys_name(staged: Path, copy: Path, name: str) -> None:
    assert (copy / name).read_text() == RELEASE.files[name].replace(A, f"{A}.1")
    assert (staged / name).read_text() == RELEASE.files[name]


def test_a_copys_copy_has_its_own_name_everywhere(app: App, copy: Path) -> None:
    second = app.paths.path(staging.copy(app.paths, copy.name))
    assert (second / "supervisor.conf").read_text() == RELEASE.files["supervisor.conf"].replace(A, f"{A}.2")


def test_a_copys_variables_are_its_own(staged: Path, copy: Path) -> None:
    """Hard links would change the live release, too."""
    found = {path.name: path.read_text() for path in (copy / "env").iterdir()}
    assert found == {name: f"{value}\n" for name, value in {**RELEASE.env, "FLASKFLEET_RELEASE": f"{A}.1"}.items()}
    assert (staged / "env/FLASKFLEET_RELEASE").read_text() == f"{A}\n"


def test_a_copys_record_differs_in_the_name_only(app: App, copy: Path) -> None:
    assert app.paths.record(copy.name) == {**RELEASE.record, "release": f"{A}.1"}


def test_a_copy_has_no_socket_of_its_release(app: App, staged: Path) -> None:
    (staged / "run/uwsgi.sock").touch()
    assert list((app.paths.path(staging.copy(app.paths, A)) / "run").iterdir()) == []


def test_a_copys_manifest_is_its_own(app: App, staged: Path, copy: Path) -> None:
    assert manifest.edited(app.paths, copy.name) == []
    assert (copy / "manifest.json").read_bytes() != (staged / "manifest.json").read_bytes()


def test_an_interrupted_copy_leaves_the_release_and_nothing_beside_it(
    prepared: App, archive: Path, environment: Environment, snapshot
) -> None:
    app, staged = prepared, prepared.paths.path(A)
    staging.stage(app.paths, replace(RELEASE, env={"FLASKFLEET_RELEASE": A}), archive, environment)
    before = snapshot(staged)
    expected = None
    for number in interruptions(lambda _: staging.copy(app.paths, A)):
        assert app.paths.on_disk() == [A], f"interrupted before step {number}"
        copy = app.paths.path(staging.copy(app.paths, A))
        left = snapshot(copy)
        expected = expected or left
        assert (left, snapshot(staged)) == (expected, before), f"interrupted before step {number}"
        shutil.rmtree(copy)


# on disk


def test_a_host_without_the_app_has_nothing(app: App) -> None:
    assert (app.paths.live(), app.paths.on_disk(), app.paths.previous(), app.paths.name_of(A)) == (None, [], None, None)


def test_other_folders_are_no_releases(app: App) -> None:
    for name in (B, A, f"{A}.1", f".{C}", "lost+found", f"{D}.old", D[:11], D.upper()):
        app.paths.path(name).mkdir(parents=True)
    assert app.paths.on_disk() == [A, f"{A}.1", B]


@pytest.mark.parametrize(
    ("names", "kept"),
    [
        ([A, B], A),
        ([A, f"{A}.1"], f"{A}.1"),
        ([f"{A}.2", f"{A}.10", f"{B}.11"], f"{A}.10"),
        ([B, f"{B}.1"], None),
    ],
    ids=["its id", "its restart", "its last restart", "not there"],
)
def test_name_of_is_the_name_of_the_last_restart(app: App, names: list[str], kept: str | None) -> None:
    lay(app, *names)
    assert app.paths.name_of(A) == kept


@pytest.mark.parametrize(
    ("history", "gone", "voided", "before"),
    [
        ([A], [], [], None),
        ([A, B], [], [], A),
        ([A, B, C], [], [], B),
        ([A, B, C, A], [], [], C),
        ([A, B, A], [], [B], None),
        ([A, B, C], [], [B], A),
        ([A, B, C], [B], [], A),
        ([A, f"{A}.1"], [], [], None),
        ([A, B, f"{B}.1"], [], [], A),
        ([A, f"{A}.1", B], [], [], f"{A}.1"),
        ([A, f"{A}.1", B], [], [A], None),
    ],
    ids=[
        "the first",
        "the second",
        "the third",
        "live again",
        "rolled back from",
        "voided",
        "pruned",
        "restarted",
        "restarted since",
        "restarted before",
        "voided with its restart",
    ],
)
def test_previous_is_the_release_that_was_live_before(
    app: App, history: list[str], gone: list[str], voided: list[str], before: str | None
) -> None:
    lay(app, *({*history} - {*gone}))
    lived(app, *history, voided=tuple(voided))
    assert app.paths.previous() == before


# pruned


@pytest.mark.parametrize(
    ("history", "keep", "left"),
    [
        ([A, B, C, D], 2, [C, D]),
        ([A, B, C, D], 4, [A, B, C, D]),
        ([A, B, C, D], 9, [A, B, C, D]),
        ([A, B, C, A], 2, [A, C]),
        ([A, B, f"{B}.1", f"{B}.2"], 2, [A, f"{B}.2"]),
        ([A, f"{A}.1", B], 2, [f"{A}.1", B]),
    ],
    ids=["some", "exactly", "fewer", "live again", "restarted", "restarted before"],
)
def test_the_releases_that_were_live_last_are_kept(app: App, history: list[str], keep: int, left: list[str]) -> None:
    lay(app, *{*history})
    lived(app, *history)
    pruning.prune(app.paths, keep, set())
    assert app.paths.on_disk() == left


def test_a_release_that_was_never_live_is_pruned(app: App) -> None:
    lay(app, A, B, C)
    lived(app, A, C)
    pruning.prune(app.paths, 5, set())
    assert app.paths.on_disk() == [A, C]


@pytest.mark.parametrize("stays", ["asked for", "previous"])
def test_a_release_in_use_is_kept_whatever_its_age(app: App, stays: str) -> None:
    lay(app, A, B, C, D)
    lived(app, A, B, C, D)
    if stays == "previous":
        (app.paths.home / "previous").symlink_to(f"releases/{A}")
    pruning.prune(app.paths, 2, {A} if stays == "asked for" else set())
    assert app.paths.on_disk() == [A, C, D]


@pytest.fixture
def pruned(app: App) -> App:
    """The app, of whose releases A, B, and A.1 the first was pruned."""
    restart = f"{A}.1"
    lay(app, A, B, restart)
    lived(app, A, B, restart)
    (app.paths.logs / f"{A}.log.3").touch()
    (app.paths.logs / "mailer.log").touch()
    (app.paths.home / "venvs" / "router").mkdir()
    (app.paths.home / "venvs" / "unused").mkdir()
    (app.paths.home / "router").symlink_to("venvs/router")
    journal = app.paths.journal()
    journal.hooks = {B: {"migrate": "2026-11-22"}, C: {"migrate": "2026-11-23"}}
    journal.save()
    pruning.prune(app.paths, 2, set())
    return app


def test_a_pruned_releases_logs_are_removed(pruned: App) -> None:
    assert sorted(path.name for path in pruned.paths.logs.iterdir()) == [f"{A}.1.log", f"{B}.log", "mailer.log"]


def test_unused_environments_are_removed(pruned: App) -> None:
    """The router uses it."""
    assert sorted(path.name for path in (pruned.paths.home / "venvs").iterdir()) == [f"{A}.1", B, "router"]


@pytest.mark.parametrize("user", ["blog", "shop"])
def test_old_wheels_of_any_apps_environment_are_kept(app: App, host: Path, environment: Environment, user: str) -> None:
    used, unused = (wheel["sha256"] for wheel in environment.wheels or ())
    for name in (used, unused):
        os.utime(app.paths.pool / name, (0, 0))
    lay(app, A)
    lived(app, A)
    venv = app.paths.home / "venvs" / A if user == "blog" else host / "srv/shop/venvs/1a2b"
    venv.mkdir(parents=True, exist_ok=True)
    write_json(venv / environments.RECORD, {"wheels": [{"file": "uwsgi-1.0-py3-none-any.whl", "sha256": used}]})
    pruning.prune_environments(app.paths)
    assert [path.name for path in app.paths.pool.iterdir()] == [used]


def test_wheels_that_are_younger_than_a_day_are_kept(app: App, environment: Environment) -> None:
    """A release that is about to be staged needs them."""
    pruning.prune_environments(app.paths)
    assert len(list(app.paths.pool.iterdir())) == 2


def test_an_environment_that_another_release_uses_is_kept(app: App, stage: Callable[..., Path]) -> None:
    for name in (A, B):
        stage(name)
    lived(app, A, B)
    pruning.prune(app.paths, 1, set())
    assert (app.paths.path(B) / "venv").resolve(strict=True).is_dir()


def test_done_hooks_are_forgotten_with_their_release(pruned: App) -> None:
    assert pruned.paths.journal().hooks.keys() == {B}


def test_an_interrupted_removal_leaves_a_whole_release_or_none(app: App, stage: Callable[..., Path]) -> None:
    stage(A)
    for number in interruptions(lambda _: pruning.remove_release(app.paths, A)):
        assert app.paths.on_disk() == [] or manifest.edited(app.paths, A) == [], f"interrupted before step {number}"
        if not app.paths.on_disk():
            stage(A)


def test_removing_a_missing_release_does_nothing(prepared: App) -> None:
    pruning.remove_release(prepared.paths, A)


# drift


def test_a_release_as_it_was_written_is_not_edited(app: App, staged: Path) -> None:
    assert manifest.edited(app.paths, A) == []


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (
            lambda release: (release / "src/blog/__init__.py").write_text("app = 1\n"),
            ["src/blog/__init__.py was edited"],
        ),
        (lambda release: (release / "env/EMPTY").write_text("x\n"), ["env/EMPTY was edited"]),
        (lambda release: (release / "uwsgi.ini").unlink(), ["uwsgi.ini was removed"]),
        (lambda release: (release / "src/debug.py").touch(), ["src/debug.py was added"]),
        (
            lambda release: (release / "src/manage").rename(release / "src/manage2"),
            ["src/manage was removed", "src/manage2 was added"],
        ),
        (
            lambda release: (release / "static/static/style.css").write_text("by hand"),
            ["src/blog/static/style.css was edited", "static/static/style.css was edited"],
        ),
    ],
    ids=["a source", "a variable", "removed", "added", "renamed", "a file with two names"],
)
def test_an_edited_file_is_named(app: App, staged: Path, edit: Callable[[Path], object], words: list[str]) -> None:
    edit(staged)
    assert manifest.edited(app.paths, A) == [f"{staged}/{line}" for line in words]


@pytest.mark.parametrize("name", ["run/uwsgi.sock", "src/blog/__pycache__/more.pyc", "venv/added.py"])
def test_files_that_a_running_app_writes_are_no_drift(app: App, staged: Path, name: str) -> None:
    (staged / name).write_text("x")
    assert manifest.edited(app.paths, A) == []


def test_the_apps_run_folder_is_not_searched(app: App, staged: Path) -> None:
    """With folders of any depth, fifos without a writer, and links of any length."""
    os.mkfifo(staged / "run/fifo")
    (staged / "run/link").symlink_to("a/" * 2047)
    folder = os.open(staged / "run", os.O_RDONLY)
    for _ in range(1_500):
        os.mkdir("d", dir_fd=folder)
        inner = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)
    assert manifest.edited(app.paths, A) == []
    pruning.remove_release(app.paths, A)
    assert os.listdir(app.paths.home / "releases") == []


def test_the_run_folder_is_given_to_the_app_last(
    app: App, stage: Callable[..., Path], owners: Owners, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The app's user could create a fifo there, on which root would wait."""
    aside, durable = app.paths.path(f".{A}"), staging.fsync_tree
    owned: dict[Path, tuple[int, int]] = {}

    def look(folder: Path) -> None:
        owned[folder] = owners.get(f"{folder}/run", (0, 0))
        durable(folder)

    monkeypatch.setattr(staging, "fsync_tree", look)
    stage(A)
    assert (owned[aside], owners[f"{aside}/run"]) == ((0, 0), (0, APP_ID))
