"""A virtual environment is complete at its path or not there, and holds wheels of the host and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from ansible.module_utils.flaskfleet import environments, sandbox
from ansible.module_utils.flaskfleet.environments import (
    Environment,
    EnvironmentFailed,
    build_environment,
    used_wheels,
)
from ansible.module_utils.flaskfleet.sandbox import Sandbox
from ansible.module_utils.flaskfleet.wheels import Wheel, sha256_of
from examples import PLATFORM
from interruption import interruptions
from sandboxes import stay_who_we_are


def make_wheel(pool: Path, name: str, requires: str = "", scripts: str = "", tag: str = "any", **further: str) -> Wheel:
    """Make a wheel whose console script, of the same name, prints its interpreter and the name of its module.

    ``further`` are files by name, with _ for a dot; ``scripts`` lines of its entry_points.txt.
    """
    info = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": "import sys\n\n\ndef main():\n    print(sys.executable, main.__code__.co_filename)\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{requires}",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-{tag}\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name} = {name}:main\n{scripts}",
        **{file.replace("_", "."): content for file, content in further.items()},
    }
    pool.mkdir(parents=True, exist_ok=True)
    path = pool / f"{name}-1.0-py3-none-{tag}.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for file, content in files.items():
            wheel.writestr(file, content)
        wheel.writestr(f"{info}/RECORD", "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"]))
    sha256 = sha256_of(path)
    (pool / sha256).mkdir()
    path.rename(pool / sha256 / path.name)
    return Wheel(file=path.name, sha256=sha256)


# a real one


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment made by the real venv and pip from two wheels, without a network."""
    folder = tmp_path_factory.mktemp("real")
    pool = folder / "pool"
    wheels = (make_wheel(pool, "server", "Requires-Dist: nothing-that-exists\n"), make_wheel(pool, "library"))
    environment = Environment(sys.executable, PLATFORM, ("1a", "2b"), wheels)
    (folder / "venvs").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        stay_who_we_are(patch, folder / "sandboxes")
        return folder / "venvs" / build_environment(folder / "venvs", environment, pool)


@pytest.mark.parametrize("script", ["server", "library"])
def test_a_script_runs_from_the_final_path(real: Path, script: str) -> None:
    interpreter, module = subprocess.check_output([real / "bin" / script], text=True).split()
    assert Path(interpreter) == real / "bin" / "python"
    assert module.startswith(f"{real}/lib/")


def test_a_script_names_the_final_path(real: Path) -> None:
    assert (real / "bin" / "server").read_text().startswith(f"#!{real}/bin/python")


def test_no_script_names_the_path_where_it_was_made(real: Path) -> None:
    aside = str(real.with_name(f".{real.name}")).encode()
    assert [script for script in (real / "bin").iterdir() if aside in script.read_bytes()] == []


def test_modules_are_compiled_already_for_the_final_path(real: Path) -> None:
    """The app's user may not write there, and every start would compile again."""
    (compiled,) = real.glob("lib/*/site-packages/__pycache__/library.*.pyc")
    assert f"{real}/lib/".encode() in compiled.read_bytes()


def test_nothing_else_is_left(real: Path) -> None:
    assert [path.name for path in real.parent.iterdir()] == [real.name]


def test_the_instance_folder_of_a_package_is_the_apps_own(real: Path) -> None:
    assert os.readlink(real / "var") == "../../shared/var"


def test_a_record_has_the_inputs_of_an_environment(real: Path) -> None:
    record = json.loads((real / environments.RECORD).read_text())
    assert (record["python"], record["platform"], record["sets"]) == (sys.executable, PLATFORM, ["1a", "2b"])
    assert {wheel["sha256"] for wheel in record["wheels"]} == used_wheels(real.parent)
    assert len(used_wheels(real.parent)) == 2


def test_a_wheel_that_was_altered_is_refused(venvs: Path, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "server")
    with (tmp_path / wheel["sha256"] / wheel["file"]).open("ab") as file:
        file.write(b"altered")
    environment = Environment(sys.executable, PLATFORM, ("1a",), (wheel,))
    with pytest.raises(EnvironmentFailed, match=f"(?s)DO NOT MATCH THE HASHES.*{wheel['sha256']}"):
        build_environment(venvs, environment, tmp_path)
    assert list(venvs.iterdir()) == []


# who runs what

SPY = "import os; open('{log}/' + os.environ.get('HOME', '-').replace('/', '_'), 'a')\n"


def test_no_code_of_a_wheel_runs_but_in_the_sandbox(venvs: Path, tmp_path: Path) -> None:
    """Root has another HOME."""
    (tmp_path / "log").mkdir()
    spy = SPY.format(log=tmp_path / "log")
    files = {"spy_pth": spy, "sitecustomize_py": spy, "usercustomize_py": spy}
    wheel = make_wheel(tmp_path / "pool", "spy", **files)
    environment = Environment(sys.executable, PLATFORM, ("1a",), (wheel,))
    python = venvs / build_environment(venvs, environment, tmp_path / "pool") / "bin/python"
    seen = {path.name for path in (tmp_path / "log").iterdir()}
    assert seen <= {f"{sandbox.SANDBOXES}/venv/work".replace("/", "_")}
    subprocess.run([python, "-c", ""], check=True, env={"HOME": "/an/app"})
    assert "_an_app" in {path.name for path in (tmp_path / "log").iterdir()}  # the spy works


def test_a_script_of_a_wheel_lies_in_the_environment_or_nowhere(
    venvs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pip writes where an entry point's name leads: it must not be root who does."""
    ran: list[str] = []
    monkeypatch.setattr(Sandbox, "_setpriv", lambda box: ran.append(box.user) or ["setpriv", "--no-new-privs"])
    wheel = make_wheel(tmp_path / "pool", "spy", scripts="../../../escaped = spy:main\n")
    environment = Environment(sys.executable, PLATFORM, ("1a",), (wheel,))
    with suppress(EnvironmentFailed):
        build_environment(venvs, environment, tmp_path / "pool")
    assert len(ran) >= 2
    assert all(path.is_relative_to(venvs / environment.key / "bin") for path in tmp_path.rglob("escaped"))


# libraries

LINKED = "/bin/sh:\n\tlibc.so.6 => /lib/libc.so.6 (0x1)\n"


@pytest.fixture
def linked(venvs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """A function that makes an environment of a wheel with an extension, of which ldd says this; where it is."""

    def make(said: str, tag: str = "linux_x86_64", **further: str) -> Path:
        ldd = tmp_path / "bin/ldd"
        ldd.parent.mkdir()
        ldd.write_text(
            f"#!/bin/sh\necho \"$@\" > {tmp_path}/asked\nprintf '{LINKED}'\nshift\n"
            f'for file; do printf "$file:\\n{said}"; done\nexit 1\n'
        )
        ldd.chmod(0o755)
        monkeypatch.setenv("PATH", f"{ldd.parent}:{os.environ['PATH']}")
        wheel = make_wheel(tmp_path / "pool", "psycopg2", tag=tag, **{"_psycopg_so": "\x7fELF", **further})
        environment = Environment(sys.executable, PLATFORM, ("1a",), (wheel,))
        return venvs / build_environment(venvs, environment, tmp_path / "pool")

    return make


def test_an_extension_whose_library_is_missing_is_refused(linked: Callable[..., Path], venvs: Path) -> None:
    words = (
        r"^psycopg2-1.0-py3-none-linux_x86_64.whl: lib/python3.\d+/site-packages/.psycopg.so needs libpq.so.5, which "
        r"this host does not have; name the package that brings it \(apt-file search libpq.so.5\) in packages of the "
        r"app and run site.yml$"
    )
    with pytest.raises(EnvironmentFailed, match=words):
        linked("\\tlibpq.so.5 => not found\\n\\tlibc.so.6 => /lib/libc.so.6 (0x1)\\n")
    assert list(venvs.iterdir()) == []


def test_an_extension_whose_libraries_exist_is_accepted(linked: Callable[..., Path], tmp_path: Path) -> None:
    assert (linked("\\tlibpq.so.5 => /lib/libpq.so.5 (0x1)\\n") / "bin/python").exists()
    assert (tmp_path / "asked").read_text().endswith("/site-packages/.psycopg.so\n")


def test_a_library_that_another_package_brings_is_not_missing(linked: Callable[..., Path]) -> None:
    assert (linked("\\tlibgmp.so => not found\\n", **{"libgmp_so": ""}) / "bin/python").exists()


def test_wheels_of_an_index_bring_what_they_need(linked: Callable[..., Path], tmp_path: Path) -> None:
    """Some look for further libraries when they are used: a driver of a graphics card."""
    assert (linked("\\tlibcuda.so.1 => not found\\n", "manylinux_2_17_x86_64") / "bin/python").exists()
    assert not (tmp_path / "asked").exists()


# the key

WHEELS = (Wheel(file="uwsgi-1.0-py3-none-any.whl", sha256="0" * 64), Wheel(file="flask-3-any.whl", sha256="1" * 64))
MADE = Environment("/usr/bin/python3", PLATFORM, ("1a", "2b"), WHEELS)


@pytest.mark.parametrize(
    "changed", [{"python": "other"}, {"platform": "other"}, {"sets": ("1a",)}, {"sets": ("2b", "1a")}], ids=str
)
def test_the_key_depends_on_each_input(changed: dict[str, object]) -> None:
    assert replace(MADE, **changed).key != MADE.key


def test_the_key_of_a_set_that_was_built_again_or_is_not_known_is_the_same() -> None:
    assert {replace(MADE, wheels=wheels).key for wheels in (WHEELS, WHEELS[:1], None)} == {MADE.key}


def test_the_key_is_twelve_hex_digits() -> None:
    assert len(MADE.key) == 12
    assert int(MADE.key, 16)


# an interpreter that does little and writes down what it was asked


@pytest.fixture
def calls(tmp_path: Path) -> Callable[[], list[str]]:
    """A function that tells the command lines of the fake interpreter."""
    log = tmp_path / "calls"
    return lambda: log.read_text().splitlines() if log.exists() else []


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Environment]:
    """A function that makes an environment's inputs with a fake interpreter; one command line may be told to fail."""

    def make(failing: str = "nothing") -> Environment:
        path = tmp_path / "python3"
        path.write_text(
            f"""#!/bin/sh
            echo "$*" >> {tmp_path}/calls
            case "$*" in
              *{failing}*) echo "out: the words"; echo "err: the reason" >&2; exit 1 ;;
              "-I -m venv "*) mkdir -p "$4/bin" && cp "$0" "$4/bin/python" && echo "$4" > "$4/bin/activate" ;;
              *" -r "*) while [ $# -gt 1 ]; do shift; done; cat "$1" >> {tmp_path}/listed ;;
            esac
            """
        )
        path.chmod(0o755)
        return replace(MADE, python=str(path), wheels=())

    return make


@pytest.fixture
def venvs(tmp_path: Path) -> Path:
    (tmp_path / "venvs").mkdir()
    return tmp_path / "venvs"


def test_an_environment_survives_a_power_cut(venvs: Path, made, monkeypatch: pytest.MonkeyPatch) -> None:
    durable: list[Path] = []
    monkeypatch.setattr(environments, "fsync_path", durable.append)
    build_environment(venvs, made())
    assert durable == [venvs]


def test_the_same_inputs_are_built_once(venvs: Path, made, calls) -> None:
    key = build_environment(venvs, made())
    before = calls()
    assert build_environment(venvs, made()) == key
    assert calls() == before


def test_another_set_is_another_environment(venvs: Path, made) -> None:
    keys = {build_environment(venvs, replace(made(), sets=sets)) for sets in (("1a", "2b"), ("1a", "3c"))}
    assert {path.name for path in venvs.iterdir()} == keys
    assert len(keys) == 2


def test_the_hosts_wheels_are_installed_by_hash_and_no_index_is_asked(venvs: Path, tmp_path: Path, made, calls) -> None:
    wheels = tuple(make_wheel(tmp_path / "pool", name) for name in ("uwsgi", "flask"))
    build_environment(venvs, replace(made(), wheels=wheels), tmp_path / "pool")
    (install,) = [call for call in calls() if "pip" in call]
    assert {"--no-index", "--no-deps", "--require-hashes"} <= set(install.split())
    assert (tmp_path / "listed").read_text().splitlines() == [
        f"{sandbox.SANDBOXES}/venv/given/{wheel['sha256']}/{wheel['file']} --hash=sha256:{wheel['sha256']}"
        for wheel in wheels
    ]


STEPS = ["-m venv", " -r "]


@pytest.mark.parametrize("step", STEPS)
def test_a_failure_leaves_nothing_at_the_final_path(venvs: Path, made, step: str) -> None:
    with pytest.raises(EnvironmentFailed):
        build_environment(venvs, made(failing=f'"{step}"'))
    assert not (venvs / made().key).exists()


@pytest.mark.parametrize("step", STEPS)
def test_after_a_failure_the_environment_can_be_built(venvs: Path, made, step: str) -> None:
    with pytest.raises(EnvironmentFailed):
        build_environment(venvs, made(failing=f'"{step}"'))
    assert list(venvs.iterdir()) == []
    key = build_environment(venvs, made())
    assert [path.name for path in venvs.iterdir()] == [key]


def test_files_of_an_interrupted_build_are_not_used(venvs: Path, made) -> None:
    aside = venvs / f".{made().key}"
    aside.mkdir(parents=True)
    (aside / "left-over").touch()
    key = build_environment(venvs, made())
    assert not (venvs / key / "left-over").exists()


def test_a_file_that_does_not_compile_is_no_failure(venvs: Path, made) -> None:
    key = build_environment(venvs, made(failing="compileall"))
    assert (venvs / key).is_dir()


def test_the_message_of_a_failure_has_pips_output(venvs: Path, made) -> None:
    with pytest.raises(EnvironmentFailed, match=r"(?s)pip install .* -r .*out: the words\nerr: the reason$"):
        build_environment(venvs, made(failing='" -r "'))


def test_an_interruption_leaves_nothing_at_the_final_path(tmp_path: Path, made) -> None:
    """Or everything; and another run leads there."""
    environment = made()

    def build(number: int) -> str:
        return build_environment(tmp_path / str(number), environment)

    for number in interruptions(build):
        final = tmp_path / str(number) / environment.key
        if final.exists():
            assert (final / environments.RECORD).exists()
        build(number)
        assert (final / "bin" / "activate").read_text() == f"{final}\n"


@pytest.mark.parametrize(
    ("mode", "words"),
    [(None, "No such file or directory"), (0o644, "Permission denied")],
    ids=["missing", "no program"],
)
def test_an_interpreter_that_cannot_be_run_is_named(venvs: Path, tmp_path: Path, mode: int | None, words: str) -> None:
    path = tmp_path / "python3.99"
    if mode:
        path.touch(mode)
    with pytest.raises(EnvironmentFailed, match=f"failed to execute {path}: {words}$"):
        build_environment(venvs, replace(MADE, python=str(path)))


# the wheels that are used


def test_wheels_of_environments_are_in_use(venvs: Path, made) -> None:
    wheel = make_wheel(venvs.parent / "pool", "uwsgi")
    build_environment(venvs, replace(made(), wheels=(wheel,), sets=("1a",)), venvs.parent / "pool")
    (venvs / "of-another-time").mkdir()
    assert used_wheels(venvs) == {wheel["sha256"]}
