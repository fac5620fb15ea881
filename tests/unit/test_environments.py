"""A virtual environment is complete at its path or not there, and holds wheels of the host and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from ansible.module_utils.flaskfleet import environments
from ansible.module_utils.flaskfleet.environments import (
    Environment,
    EnvironmentFailed,
    build_environment,
    used_wheels,
)
from ansible.module_utils.flaskfleet.wheels import Wheel, sha256_of
from examples import PLATFORM
from interruption import interruptions


def make_wheel(pool: Path, name: str, requires: str = "") -> Wheel:
    """Make a wheel whose console script, of the same name, prints its interpreter and the name of its module."""
    info = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": "import sys\n\n\ndef main():\n    print(sys.executable, main.__code__.co_filename)\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{requires}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name} = {name}:main\n",
    }
    pool.mkdir(parents=True, exist_ok=True)
    path = pool / f"{name}-1.0-py3-none-any.whl"
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
    return folder / "venvs" / build_environment(folder / "venvs", environment, pool)


@pytest.mark.parametrize("script", ["server", "library"])
def test_a_script_runs_where_the_environment_is_in_the_end(real: Path, script: str) -> None:
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


def test_a_record_tells_what_an_environment_was_made_of(real: Path) -> None:
    record = json.loads((real / environments.RECORD).read_text())
    assert (record["python"], record["platform"], record["sets"]) == (sys.executable, PLATFORM, ["1a", "2b"])
    assert {wheel["sha256"] for wheel in record["wheels"]} == used_wheels(real.parent)
    assert len(used_wheels(real.parent)) == 2


def test_a_wheel_that_was_altered_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "server")
    with (tmp_path / wheel["sha256"] / wheel["file"]).open("ab") as file:
        file.write(b"altered")
    environment = Environment(sys.executable, PLATFORM, ("1a",), (wheel,))
    with pytest.raises(EnvironmentFailed, match=f"(?s)DO NOT MATCH THE HASHES.*{wheel['sha256']}"):
        build_environment(tmp_path / "venvs", environment, tmp_path)
    assert list((tmp_path / "venvs").iterdir()) == []


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
              "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && echo "$3" > "$3/bin/activate" ;;
              *" -r "*) while [ $# -gt 1 ]; do shift; done; cat "$1" >> {tmp_path}/listed ;;
            esac
            """
        )
        path.chmod(0o755)
        return replace(MADE, python=str(path))

    return make


@pytest.fixture
def venvs(tmp_path: Path) -> Path:
    (tmp_path / "venvs").mkdir()
    return tmp_path / "venvs"


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
    build_environment(venvs, made(), tmp_path / "pool")
    (install,) = [call for call in calls() if "pip" in call]
    assert {"--no-index", "--no-deps", "--require-hashes"} <= set(install.split())
    assert (tmp_path / "listed").read_text().splitlines() == [
        f"{tmp_path}/pool/{wheel['sha256']}/{wheel['file']} --hash=sha256:{wheel['sha256']}" for wheel in WHEELS
    ]


STEPS = ["-m venv", " -r "]


@pytest.mark.parametrize("step", STEPS)
def test_a_failure_leaves_nothing_at_the_final_path(venvs: Path, made, step: str) -> None:
    with pytest.raises(EnvironmentFailed):
        build_environment(venvs, made(failing=f'"{step}"'))
    assert not (venvs / made().key).exists()


@pytest.mark.parametrize("step", STEPS)
def test_after_a_failure_all_is_gone_and_it_can_be_built(venvs: Path, made, step: str) -> None:
    with pytest.raises(EnvironmentFailed):
        build_environment(venvs, made(failing=f'"{step}"'))
    assert list(venvs.iterdir()) == []
    key = build_environment(venvs, made())
    assert [path.name for path in venvs.iterdir()] == [key]


def test_what_an_interrupted_build_has_left_is_not_used(venvs: Path, made) -> None:
    aside = venvs / f".{made().key}"
    aside.mkdir(parents=True)
    (aside / "left-over").touch()
    key = build_environment(venvs, made())
    assert not (venvs / key / "left-over").exists()


def test_a_file_that_does_not_compile_is_its_packages_business(venvs: Path, made) -> None:
    key = build_environment(venvs, made(failing="compileall"))
    assert (venvs / key).is_dir()


def test_a_failure_has_pips_words(venvs: Path, made) -> None:
    with pytest.raises(EnvironmentFailed, match=r"(?s)pip install .* -r .*err: the reason.*out: the words"):
        build_environment(venvs, made(failing='" -r "'))


def test_an_interruption_leaves_nothing_at_the_final_path(tmp_path: Path, made) -> None:
    """Or everything; and another run leads there."""
    environment = made()

    def build(number: int) -> str:
        return build_environment(tmp_path / str(number), environment)

    for number in interruptions(build):
        final = tmp_path / str(number) / environment.key
        assert not final.exists()
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
    with pytest.raises(EnvironmentFailed, match=f"^{path} can't be run: {words}; name another `python`$"):
        build_environment(venvs, replace(MADE, python=str(path)))


def test_pip_has_no_setting_of_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://elsewhere")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    show = "import json, os; print(json.dumps(dict(os.environ)))"
    done = subprocess.run
    seen: list[dict[str, str]] = []

    def run(argv: list[str], **options: object) -> object:
        result = done(argv, **options)
        seen.append(json.loads(result.stdout))
        return result

    monkeypatch.setattr(subprocess, "run", run)
    environments._run([sys.executable, "-c", show])
    assert seen[0].keys().isdisjoint({"PIP_INDEX_URL", "PYTHONPATH"})
    assert seen[0]["PIP_CONFIG_FILE"] == "/dev/null"


# the wheels that are used


def test_what_environments_were_made_from_is_used(venvs: Path, made) -> None:
    build_environment(venvs, replace(made(), wheels=WHEELS[:1], sets=("1a",)))
    (venvs / "of-another-time").mkdir()
    assert used_wheels(venvs) == {WHEELS[0]["sha256"]}
