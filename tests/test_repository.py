"""What a host of the repository reads: it parses, and names only files and targets that exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from support import release

from lab import __version__
from lab.settings import CHECKOUT

FOLDER = CHECKOUT / ".github"
WORKFLOWS = sorted((FOLDER / "workflows").glob("*.yml"))
FORMS = sorted(path for path in (FOLDER / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")
FIELDS = {"checkboxes", "dropdown", "input", "markdown", "textarea"}
LINK = re.compile(r"\[[^\]]*\]\((?!https?:|#|mailto:)([^)#]+)")


def steps(path: Path) -> list[dict]:
    jobs = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values()
    return [step for job in jobs for step in job["steps"]]


def test_a_workflow_runs_all_that_must_hold():
    assert ".ci/run" in [step.get("run") for step in steps(FOLDER / "workflows" / "ci.yml")]
    assert (CHECKOUT / ".ci" / "run").stat().st_mode & 0o111


def test_both_images_are_built_for_both_architectures():
    text = (FOLDER / "workflows" / "images.yml").read_text(encoding="utf-8")
    job = yaml.safe_load(text)["jobs"]["build"]
    (build,) = [step["with"] for step in job["steps"] if "build-push-action" in step.get("uses", "")]
    assert set(build["platforms"].split(",")) == {"linux/amd64", "linux/arm64"}
    stages = re.findall(r"^FROM \S+ AS (\S+)", (CHECKOUT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(job["strategy"]["matrix"]["target"]) == {"services", "lab"} <= set(stages)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflow_names_files_that_exist_and_pins_its_actions(path):
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert document["permissions"] == {"contents": "read"}
    assert all(job["timeout-minutes"] for job in document["jobs"].values())
    for step in steps(path):
        assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step.get("uses", "some/action@v1"))
        for command in re.findall(r"(?<![\w/])\.?[\w-]+/[\w./-]+", step.get("run", "")):
            assert (CHECKOUT / command).exists(), command
        for name in re.findall(r"hashFiles\('([^']+)'\)", str(step)):
            assert (CHECKOUT / name).is_file(), name
    for name in (document["on"].get("pull_request") or {}).get("paths", []):
        assert (CHECKOUT / name).exists(), name


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_issue_form_has_what_a_form_needs(path):
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert form["name"]
    assert form["description"]
    identities = [field["id"] for field in form["body"]]
    assert len(set(identities)) == len(identities)
    for field in form["body"]:
        assert field["type"] in FIELDS
        assert field["attributes"]["label"]
        assert (field["type"] in {"checkboxes", "dropdown"}) == ("options" in field["attributes"])


def test_owners_are_of_folders_that_exist():
    lines = (FOLDER / "CODEOWNERS").read_text(encoding="utf-8").splitlines()
    rules = [line.split() for line in lines if line and not line.startswith("#")]
    assert all(owner.startswith("@") for _, *owners in rules for owner in owners)
    assert [path for path, *_ in rules if path != "*" and not (CHECKOUT / path.strip("/")).is_dir()] == []


def test_updates_are_of_kinds_that_the_checkout_has():
    updates = yaml.safe_load((FOLDER / "dependabot.yml").read_text(encoding="utf-8"))["updates"]
    assert {update["package-ecosystem"] for update in updates} == {"pip", "docker", "github-actions"}
    (pip,) = (update for update in updates if update["package-ecosystem"] == "pip")
    pins = (CHECKOUT / "constraints.txt").read_text(encoding="utf-8")
    assert all(f"\n{held['dependency-name']}==" in pins for held in pip["ignore"])


@pytest.mark.parametrize("name", ["SECURITY.md", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "docs/licences.md"])
def test_links_of_a_page_lead_somewhere(name):
    page = CHECKOUT / name
    assert [link for link in LINK.findall(page.read_text(encoding="utf-8")) if not (page.parent / link).exists()] == []


def test_security_has_every_port():
    from lab.settings import ADMIN_PORTS, CONSOLE, GRAFANA, LOCUST, PROMETHEUS, SERVICE_PORTS

    text = (CHECKOUT / "SECURITY.md").read_text(encoding="utf-8")
    models, admin = ([port.default for port in ports.values()] for ports in (SERVICE_PORTS, ADMIN_PORTS))
    for low, high in ((min(models), max(models)), (min(admin), max(admin))):
        assert f"{low} to {high}" in text
    assert all(str(port.default) in text for port in (CONSOLE, GRAFANA, LOCUST, PROMETHEUS))


# Versions and notes.


def test_version_has_one_source():
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "lab.__version__"}


def test_changelog_has_the_version_with_its_date_and_room_for_the_next():
    assert release.notes(__version__).startswith(f"# accept-lab {__version__}\n\n### ")
    sections = [section["version"] for section in release.SECTION.finditer((CHECKOUT / "CHANGELOG.md").read_text())]
    assert sections[:2] == ["Unreleased", __version__]


def test_notes_are_the_section_alone():
    changelog = "# Changelog\n\n## [Unreleased]\n\n- b\n\n## [2.0.0] - 2026-11-29\n\n### Added\n\n- a\n\n## [1.0.0] - 2026-01-01\n\n- old\n"
    assert release.notes("2.0.0", changelog) == "# accept-lab 2.0.0\n\n### Added\n\n- a\n"


@pytest.mark.parametrize(
    ("changelog", "why"),
    [
        ("## [Unreleased]\n", "has no section"),
        ("## [2.0.0]\n\n- a\n", "has no date"),
        ("## [2.0.0] - soon\n\n- a\n", "has no date"),
    ],
)
def test_version_without_a_section_or_a_date_is_no_release(changelog, why):
    with pytest.raises(release.ReleaseError, match=why):
        release.notes("2.0.0", changelog)
