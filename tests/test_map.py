"""tests/README.md says where each file of the servers and each folder of the lab is tested."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROOT = TESTS.parent
NAMES = re.compile(r"`([^`]+)`")


def rows(section: str) -> dict[str, list[str]]:
    """Return the table of a section of tests/README.md: file or folder → what its second column names."""
    text = (TESTS / "README.md").read_text().split(f"{section}\n")[1].split("\n## ")[0]
    cells = [line.split("|") for line in text.splitlines() if line.startswith("| `")]
    return {name: NAMES.findall(row[2]) for row in cells for name in NAMES.findall(row[1])}


FILES = sorted(str(path.relative_to(ROOT / "services")) for path in (ROOT / "services").rglob("*.py"))
FOLDERS = sorted(path.parent.name for path in (ROOT / "lab").glob("*/__init__.py"))


def has_mirror(file: str) -> bool:
    folder, _, name = file.rpartition("/")
    return (TESTS / "services" / folder / f"test_{name}").is_file()


@pytest.mark.parametrize("file", FILES)
def test_every_file_of_the_servers_has_a_mirror_or_a_row(file: str) -> None:
    suites = rows("# The tests").get(file, [])
    assert has_mirror(file) or suites, f"write tests/services/…/test_{Path(file).name}, or add a row to tests/README.md"


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_folder_of_the_lab_has_a_row(folder: str) -> None:
    assert rows("## The lab").get(folder), f"add a row for lab/{folder} to tests/README.md"


def test_every_suite_named_exists_and_every_row_is_of_a_file() -> None:
    servers, lab = rows("# The tests"), rows("## The lab")
    assert [
        suite for suites in servers.values() for suite in suites if not (TESTS / "services" / suite).is_file()
    ] == []
    assert [suite for suites in lab.values() for suite in suites if not (ROOT / suite).exists()] == []
    assert sorted(set(servers) - set(FILES)) == []
