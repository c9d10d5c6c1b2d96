"""What a host gets runs there without the rest of the checkout, and only changes when it does."""

from __future__ import annotations

import subprocess
import sys
import tarfile

from lab import settings
from lab.stack import bundle


def test_code_of_the_archive_runs_without_the_checkout(tmp_path):
    archive = tmp_path / "source.tar.gz"
    archive.write_bytes(bundle.pack(bundle.contents("servers")))
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path, filter="data")
    code = "import loadtests.locustfile, lab.settings, services.__main__; print(lab.settings.__file__)"
    for words in (["-c", code], ["-m", "services", "nginx", "--help"]):
        done = subprocess.run([sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert str(settings.CHECKOUT) not in done.stdout
    # The host's own interpreter runs this one, without any package.
    units = subprocess.run(
        [sys.executable, "-I", "-S", tmp_path / "lab/stack/units.py", "--check"], input="[]", text=True, timeout=60
    )
    assert units.returncode == 0


def test_same_code_gives_the_same_bytes():
    files = bundle.contents("page")
    assert bundle.pack(files) == bundle.pack(dict(reversed(files.items())))


def test_requirements_are_those_of_the_project_and_of_the_load_generator():
    found = bundle.requirements("servers")
    models, loadgen = (found[f"requirements/{name}.txt"].decode() for name in ("models", "loadgen"))
    assert "httptools" in models
    assert not {"locust", "prometheus-client"} & {bundle.package(line) for line in models.split()}
    assert loadgen.startswith(models)
    assert "\nlocust" in loadgen
    assert "\nprometheus-client" in loadgen


def test_page_of_the_archive_needs_neither_the_checkout_nor_what_is_left_out(tmp_path):
    archive = tmp_path / "source.tar.gz"
    archive.write_bytes(bundle.pack(bundle.contents("page")))
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path, filter="data")
    left_out = "import sys; sys.modules.update(dict.fromkeys(['matplotlib', 'grafana_client', 'ansible', 'docker']))"
    code = (
        f"{left_out}; import lab.console.page as page; print(page.__file__, *(p.name for p in page.STATIC.iterdir()))"
    )
    environment = {"PATH": "/usr/bin:/bin", "LAB_STATE_DIR": str(tmp_path / "state"), "LAB_PLACE": "vms"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert str(settings.CHECKOUT) not in done.stdout
    assert {"style.css", "script.js", "icon.svg"} <= set(done.stdout.split())


def test_requirements_of_the_page_are_the_tools_that_it_imports():
    lines = bundle.requirements("page")["requirements/page.txt"].decode().splitlines()
    packages = {bundle.package(line) for line in lines}
    assert {"httptools", "locust", "nicegui", "typer"} <= packages
    assert not packages & bundle.NOT_FOR_THE_PAGE
