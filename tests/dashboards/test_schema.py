"""The dashboards' JSON against Grafana's own types, which it publishes as the npm package @grafana/schema."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from dashboards import build

PACKAGES = ("@grafana/schema@13.1.3", "typescript@5.9.3")
"""The first is of the Grafana whose image the stack runs (docker-compose.yml)."""
OPTIONS = ("--noEmit", "--strict", "--skipLibCheck", "--moduleResolution", "node10", "--ignoreDeprecations", "5.0")


@pytest.fixture(scope="module")
def compiler(tmp_path_factory, require_tool):
    """A folder with TypeScript and the types; installed without running anything of theirs."""
    require_tool("npm")
    folder = tmp_path_factory.mktemp("schema")
    command = [
        "npm",
        "install",
        "--no-audit",
        "--no-fund",
        "--ignore-scripts",
        "--legacy-peer-deps",
        "--prefix",
        folder,
    ]
    subprocess.run([*command, *PACKAGES], check=True, capture_output=True, timeout=50)
    return folder


def compile_types(folder: Path, boards: dict[str, dict]) -> str:
    """What TypeScript complains of; empty: nothing."""
    lines = [Path(__file__).with_name("check.ts.in").read_text()]
    for number, board in enumerate(boards.values()):
        lines.append(f"export const board{number}: Written<Dashboard> = {json.dumps(board)};")
        for panel in board["panels"]:
            if panel["type"] == "row":
                continue
            name, kind = f"panel{number}_{panel['id']}", panel["type"]
            lines.append(f"export const {name}: Written<Panel> = {json.dumps(panel)};")
            lines.append(f"export const {name}_options: Written<Options['{kind}']> = {json.dumps(panel['options'])};")
            custom = panel.get("fieldConfig", {}).get("defaults", {}).get("custom")
            if custom is not None:
                lines.append(f"export const {name}_custom: Written<Custom['{kind}']> = {json.dumps(custom)};")
    (folder / "check.ts").write_text("\n".join(lines))
    done = subprocess.run(
        [folder / "node_modules/.bin/tsc", *OPTIONS, "check.ts"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def test_dashboards_have_the_types_of_grafana(compiler):
    boards = {name: json.loads(text) for name, text in build.build().items()}
    assert compile_types(compiler, boards) == ""


def test_wrong_type_and_unknown_field_are_found(compiler):
    boards = {name: json.loads(text) for name, text in list(build.build().items())[:1]}
    board = next(iter(boards.values()))
    board["refresh"] = 5
    board["panels"][1]["maxInRow"] = 3
    board["panels"][1]["options"]["colourMode"] = "value"
    complaints = compile_types(compiler, boards)
    assert "Type 'number' is not assignable to type 'string'" in complaints
    assert "maxInRow" in complaints
    assert "colourMode" in complaints
