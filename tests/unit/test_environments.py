"""A virtual environment is complete at its path or not there."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible.module_utils.flaskfleet import environments
from ansible.module_utils.flaskfleet.environments import (
    EnvironmentFailed,
    build_environment,
    environment_exists,
    environment_key,
    find_wheel,
    python_abi,
)
from interruption import interruptions


def make_wheel(folder: Path, name: str) -> Path:
    """Make a wheel whose console script, of the same name, prints its interpreter and the name of its module."""
    info = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": "import sys\n\n\ndef main():\n    print(sys.executable, main.__code__.co_filename)\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name} = {name}:main\n",
    }
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for file, content in files.items():
            wheel.writestr(file, content)
        wheel.writestr(f"{info}/RECORD", "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"]))
    return path


# a real one


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment made by the real venv and pip from two wheels, without a network."""
    folder = tmp_path_factory.mktemp("real")
    wheel = make_wheel(folder, "server")
    make_wheel(folder, "library")
    requirements = f"--no-index\n--find-links {folder}\nlibrary==1.0\n"
    return folder / "venvs" / build_environment(folder / "venvs", sys.executable, requirements, wheel)


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


# the key


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    return make_wheel(tmp_path, "server")


@pytest.mark.parametrize("changed", ["python", "abi", "requirements", "wheel"])
def test_the_key_depends_on_each_input(wheel: Path, tmp_path: Path, changed: str) -> None:
    inputs = {"python": "/usr/bin/python3", "abi": "cpython-311", "requirements": "flask\n", "wheel": wheel}
    other = {**inputs, changed: make_wheel(tmp_path, "other") if changed == "wheel" else "other"}
    assert environment_key(**inputs) != environment_key(**other)


def test_the_key_depends_on_the_wheels_content_and_not_on_its_path(wheel: Path, tmp_path: Path) -> None:
    moved = wheel.rename(tmp_path / "moved.whl")
    (tmp_path / "copy.whl").write_bytes(moved.read_bytes())
    keys = {environment_key("python", "abi", "", path) for path in (moved, tmp_path / "copy.whl")}
    assert len(keys) == 1


def test_the_key_is_twelve_hex_digits(wheel: Path) -> None:
    key = environment_key("python", "abi", "", wheel)
    assert len(key) == 12
    assert int(key, 16)


# an interpreter that does little and writes down what it was asked


@pytest.fixture
def calls(tmp_path: Path) -> Callable[[], list[str]]:
    """A function that tells the command lines of the fake interpreter."""
    log = tmp_path / "calls"
    return lambda: log.read_text().splitlines() if log.exists() else []


@pytest.fixture
def interpreter(tmp_path: Path) -> Callable[..., str]:
    """A function that makes a fake interpreter; one command line may be told to fail."""

    def make(failing: str = "nothing") -> str:
        path = tmp_path / "python3"
        path.write_text(
            f"""#!/bin/sh
            echo "$*" >> {tmp_path}/calls
            case "$*" in
              *{failing}*) echo "out: the words"; echo "err: the reason" >&2; exit 1 ;;
              *SOABI*) echo cpython-fake ;;
              "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && echo "$3" > "$3/bin/activate" ;;
            esac
            """
        )
        path.chmod(0o755)
        return str(path)

    return make


@pytest.fixture
def venvs(tmp_path: Path) -> Path:
    (tmp_path / "venvs").mkdir()
    return tmp_path / "venvs"


def test_the_same_inputs_are_built_once(venvs: Path, wheel: Path, interpreter, calls) -> None:
    python = interpreter()
    key = build_environment(venvs, python, "flask\n", wheel)
    before = [call for call in calls() if "SOABI" not in call]
    assert build_environment(venvs, python, "flask\n", wheel) == key
    assert [call for call in calls() if "SOABI" not in call] == before


def test_an_environment_is_there_when_it_was_built(venvs: Path, wheel: Path, interpreter) -> None:
    python = interpreter()
    assert not environment_exists(venvs, python, "flask\n", wheel)
    build_environment(venvs, python, "flask\n", wheel)
    assert environment_exists(venvs, python, "flask\n", wheel)
    assert not environment_exists(venvs, python, "flask<4\n", wheel)


def test_other_requirements_are_another_environment(venvs: Path, wheel: Path, interpreter) -> None:
    keys = {build_environment(venvs, interpreter(), text, wheel) for text in ("flask\n", "flask<4\n")}
    assert {path.name for path in venvs.iterdir()} == keys
    assert len(keys) == 2


def test_the_wheel_is_installed_without_what_it_asks_for(venvs: Path, wheel: Path, interpreter, calls) -> None:
    build_environment(venvs, interpreter(), "", wheel)
    assert [call for call in calls() if "pip" in call] == [f"-m pip install --quiet --no-compile --no-deps {wheel}"]


@pytest.mark.parametrize(("requirements", "checked"), [("flask==3\n", False), ("flask==3 --hash=sha256:0\n", True)])
def test_hashes_are_required_of_a_lock_file_that_has_them(
    venvs: Path, wheel: Path, interpreter, calls, requirements: str, checked: bool
) -> None:
    build_environment(venvs, interpreter(), requirements, wheel)
    (install,) = [call for call in calls() if " -r " in call]
    assert ("--require-hashes" in install) == checked


@pytest.mark.parametrize("step", ["-m venv", "--no-deps", " -r "])
def test_a_failure_leaves_nothing_at_the_final_path(venvs: Path, wheel: Path, interpreter, step: str) -> None:
    with pytest.raises(EnvironmentFailed):
        build_environment(venvs, interpreter(failing=f'"{step}"'), "flask\n", wheel)
    assert not (venvs / environment_key(interpreter(), "cpython-fake", "flask\n", wheel)).exists()


def test_after_a_failure_all_is_gone_and_it_can_be_built(venvs: Path, wheel: Path, interpreter) -> None:
    with pytest.raises(EnvironmentFailed):
        build_environment(venvs, interpreter(failing='" -r "'), "flask\n", wheel)
    assert list(venvs.iterdir()) == []
    key = build_environment(venvs, interpreter(), "flask\n", wheel)
    assert [path.name for path in venvs.iterdir()] == [key]


def test_what_an_interrupted_build_has_left_is_not_used(venvs: Path, wheel: Path, interpreter) -> None:
    aside = venvs / f".{environment_key(interpreter(), 'cpython-fake', 'flask', wheel)}"
    aside.mkdir(parents=True)
    (aside / "left-over").touch()
    key = build_environment(venvs, interpreter(), "flask", wheel)
    assert not (venvs / key / "left-over").exists()


def test_a_file_that_does_not_compile_is_its_packages_business(venvs: Path, wheel: Path, interpreter) -> None:
    key = build_environment(venvs, interpreter(failing="compileall"), "flask\n", wheel)
    assert (venvs / key).is_dir()


def test_a_failure_has_pips_words(venvs: Path, wheel: Path, interpreter) -> None:
    with pytest.raises(EnvironmentFailed, match=r"(?s)pip install .* -r .*err: the reason.*out: the words"):
        build_environment(venvs, interpreter(failing='" -r "'), "flask\n", wheel)


def test_an_interruption_leaves_nothing_at_the_final_path(tmp_path: Path, wheel: Path, interpreter) -> None:
    """Or everything; and another run leads there."""
    python = interpreter()
    key = environment_key(python, "cpython-fake", "flask\n", wheel)

    def build(number: int) -> str:
        return build_environment(tmp_path / str(number), python, "flask\n", wheel)

    for number in interruptions(build):
        final = tmp_path / str(number) / key
        assert not final.exists()
        build(number)
        assert (final / "bin" / "activate").read_text() == f"{final}\n"


# the interpreter


def test_the_abi_of_this_interpreter() -> None:
    assert python_abi(sys.executable).startswith("cpython-3")


@pytest.mark.parametrize(
    ("mode", "words"),
    [(None, "No such file or directory"), (0o644, "Permission denied")],
    ids=["missing", "no program"],
)
def test_an_interpreter_that_cannot_be_run_is_named(tmp_path: Path, mode: int | None, words: str) -> None:
    path = tmp_path / "python3.99"
    if mode:
        path.touch(mode)
    with pytest.raises(EnvironmentFailed, match=f"^{path} can't be run: {words}; name another `python`$"):
        python_abi(str(path))


def test_pip_has_the_hosts_proxy_and_no_other_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", "localhost")
    monkeypatch.setenv("PIP_INDEX_URL", "http://elsewhere")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    show = "import json, os; print(json.dumps(dict(os.environ)))"
    seen = json.loads(environments._run([sys.executable, "-c", show]))
    assert (seen["https_proxy"], seen["NO_PROXY"]) == ("http://proxy:3128", "localhost")
    assert seen.keys().isdisjoint({"PIP_INDEX_URL", "PYTHONPATH"})


def test_pip_trusts_what_the_host_trusts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tmp_path / "ca.crt"
    bundle.touch()
    monkeypatch.setattr(environments, "CA_BUNDLE", bundle)
    assert environments._run([sys.executable, "-c", "import os; print(os.environ['PIP_CERT'])"]) == f"{bundle}\n"


# uWSGI's wheel


def test_the_wheel_is_found_by_interpreter_abi_and_version(tmp_path: Path, wheel: Path) -> None:
    folder = tmp_path / "wheels" / "usr-bin-python3" / "cpython-311"
    folder.mkdir(parents=True)
    (folder / "uwsgi-2.0.31.whl").symlink_to(wheel)
    assert find_wheel(tmp_path / "wheels", "/usr/bin/python3", "cpython-311", "2.0.31") == wheel


def test_a_missing_wheel_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailed, match=r"no wheel of uWSGI 2\.0\.31 for /usr/bin/python3: .*; run site\.yml"):
        find_wheel(tmp_path, "/usr/bin/python3", "cpython-311", "2.0.31")
