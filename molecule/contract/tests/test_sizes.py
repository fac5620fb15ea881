"""Files, classes and functions of the plugins are short enough to be read as one."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from conftest import PROJECT

PLUGINS = sorted(PROJECT.glob("plugins/**/*.py"))
FILE_LINES, METHODS, FUNCTION_LINES = 300, 20, 40


def test_plugins_are_found() -> None:
    assert len(PLUGINS) > 50


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_files_classes_and_functions_are_short(path: Path) -> None:
    source = path.read_text()
    long = [f"{path.name}: {source.count(chr(10))} lines"] if source.count("\n") > FILE_LINES else []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and (lines := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES:
            long.append(f"{node.name}: {lines} lines")
        if isinstance(node, ast.ClassDef):
            methods = sum(isinstance(part, ast.FunctionDef) for part in node.body)
            long += [f"{node.name}: {methods} methods"] if methods > METHODS else []
    assert long == []
