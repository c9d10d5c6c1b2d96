"""A release: `make release` writes all that one publishes to dist/, once it has been tried.

1. The version has a section with a date in CHANGELOG.md.
2. Wheel and source archive are built, the wheel from the unpacked archive, and twine judges both.
3. The wheel is installed in a new virtual environment in an empty folder; `lab up`, a request to each model, `lab down`.
4. The section of the changelog becomes dist/notes.md, and the packages of the image `lab` dist/*.cdx.json (CycloneDX).

Nothing is published: the last line says how.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from datetime import date
from importlib import metadata
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL
from support import licences, plain_http
from support.package_index import CONSTRAINTS
from support.stack import free_ports, outer_environment

from lab import __version__, settings
from lab.settings import CHECKOUT

DIST = CHECKOUT / "dist"
SECTION = re.compile(
    r"^## \[(?P<version>[^\]]+)\](?: - (?P<date>\S+))?\n(?P<text>.*?)(?=^## \[|\Z)", re.MULTILINE | re.DOTALL
)
UP_SECONDS = 300


class ReleaseError(Exception):
    """There can be no release: the text says why, and what to do."""


def main() -> int:
    """Make a release, or say in one line why there can be none."""
    shutil.rmtree(DIST, ignore_errors=True)
    try:
        text = notes(__version__)
        wheel = build(DIST)
        with tempfile.TemporaryDirectory(prefix="lab-release-") as folder:
            install(wheel, Path(folder))
            try_out(Path(folder))
        (DIST / "notes.md").write_text(text, encoding="utf-8")
        (DIST / f"accept-lab-{__version__}-image.cdx.json").write_text(bill_of_materials(), encoding="utf-8")
    except ReleaseError as error:
        sys.stderr.write(f"release: {error}\n")
        return 1
    print(
        f"dist/ has the release. Publish it: git tag -s v{__version__} && git push --tags, and twine upload dist/*.whl dist/*.gz"
    )
    return 0


def notes(version: str, changelog: str | None = None) -> str:
    """Return the changelog's section of a version. Raises ReleaseError where there is none, or it has no date."""
    changelog = changelog or (CHECKOUT / "CHANGELOG.md").read_text(encoding="utf-8")
    found = {section["version"]: section for section in SECTION.finditer(changelog)}.get(version)
    if not found:
        raise ReleaseError(
            f"CHANGELOG.md has no section [{version}], which lab/__init__.py names: close [Unreleased] by it"
        )
    try:
        date.fromisoformat(found["date"] or "")
    except ValueError:
        raise ReleaseError(f"CHANGELOG.md's section [{version}] has no date: ## [{version}] - YYYY-MM-DD") from None
    return f"# accept-lab {version}\n\n{found['text'].strip()}\n"


def build(folder: Path) -> Path:
    """Build both archives and have twine judge them; return the wheel. Raises ReleaseError."""
    say("building the archives")
    # Of this environment, whose versions are pinned; the wheel comes from the unpacked source archive.
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, CHECKOUT])
    archives = sorted(folder.iterdir())
    run([sys.executable, "-m", "twine", "check", "--strict", *archives])
    return next(archive for archive in archives if archive.suffix == ".whl")


def install(wheel: Path, folder: Path) -> None:
    """Install the wheel as its users do, in `.venv` of the folder. Raises ReleaseError."""
    say("installing the wheel")
    run([sys.executable, "-m", "venv", folder / ".venv"])
    requirement = f"accept-lab[lab] @ {wheel.resolve().as_uri()}"
    pip = [folder / ".venv/bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run([*pip, "--constraint", CONSTRAINTS, requirement], cwd=folder, env=users_environment())


def try_out(folder: Path) -> None:
    """Bring the local stack up from the wheel in `.venv`, ask each model for a page, end it. Raises ReleaseError."""
    say("trying the wheel")
    lab = folder / ".venv/bin/lab"
    moved = dict(
        zip((port.variable for port in settings.PORTS), map(str, free_ports(len(settings.PORTS))), strict=True)
    )
    environment = {**users_environment(), **moved}
    installed = files(folder / ".venv")
    version = run([lab, "--version"], cwd=folder, env=environment)
    if version.strip() != f"lab {__version__}":
        raise ReleaseError(f"the wheel's version is {version.strip()!r}, not {__version__}")
    try:
        run([lab, "up", "--place", "local"], cwd=folder, env=environment)
        for name, port in settings.SERVICE_PORTS.items():
            response = plain_http.get(f"http://127.0.0.1:{moved[port.variable]}/", timeout=30, trust_env=False)
            if response.status_code != 200:
                raise ReleaseError(f"{name} of the wheel responds with {response.status_code}")
    finally:
        run([lab, "down"], cwd=folder, env=environment)
    if not (folder / ".lab" / "logs").is_dir() or files(folder / ".venv") != installed:
        raise ReleaseError(f"the state is not in {folder / '.lab'}: {files(folder / '.venv') ^ installed}")


def users_environment() -> dict[str, str]:
    """Return the environment without the checkout: by PYTHONPATH pip would find the lab there, and install nothing."""
    return {name: value for name, value in outer_environment().items() if name not in {"LAB_STATE_DIR", "PYTHONPATH"}}


def files(folder: Path) -> set[Path]:
    """Return all files but those that Python compiles."""
    return {path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"}


def bill_of_materials() -> str:
    """Return the packages of the image `lab` with their licences, in CycloneDX's form, as this environment has them.

    What the base image brings of Debian is listed by who builds the image: `docker buildx build --sbom=true`.
    """
    bom, image = Bom(), Component(name="accept-lab", version=__version__, type=ComponentType.CONTAINER)
    bom.metadata.component = image
    for name in sorted(name for name, parts in licences.parts().items() if parts & {"servers", "tools"}):
        bom.components.add(component(name, metadata.version(name), licences.licence(name)))
    bom.register_dependency(image, bom.components)
    return str(make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=1))


def component(name: str, version: str, licence: str) -> Component:
    """Return a package as CycloneDX has it."""
    address = PackageURL("pypi", None, name, version)
    return Component(
        name=name, version=version, type=ComponentType.LIBRARY, purl=address, bom_ref=str(address),
        licenses=[LicenseFactory().make_from_string(licence)],
    )  # fmt: skip


def run(words: list[object], **more: object) -> str:
    """Run a command; its output. Raises ReleaseError with all of it where it fails."""
    done = subprocess.run(
        [str(word) for word in words],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        **{"timeout": UP_SECONDS, **more},
    )
    if done.returncode:
        command = " ".join(str(word) for word in words)
        raise ReleaseError(f"`{command}` failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def say(text: str) -> None:
    """Say which step begins."""
    print(f"release: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
