"""The containers place, as the engine sees it: what runs, how it is, what it costs, and whether anything is left.

Compose makes the containers (provisioning/roles/compose); all that it makes carries a label with the project's name, by
which it is found here.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from lab import settings
from lab.stack import engine, images
from lab.stack.parts import LEFT_OUT, Part, declared, pieces

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from docker import DockerClient
    from docker.models.containers import Container

PLACE = "containers"
PROJECT_LABEL, SERVICE_LABEL, ONE_OFF_LABEL = (
    f"com.docker.compose.{name}" for name in ("project", "service", "oneoff")
)
WORKERS = "locust-worker"
"""The one part that has no port, and any number of containers."""
CALL_SECONDS = 10.0
LOG_LINES = 15
ABSENT_DETAILS = {
    "prometheus": "left out: `lab up` says why; LAB_PROMETHEUS_IMAGE names another image",
    "grafana": "left out: `lab up` says why; LAB_GRAFANA_IMAGE names another image",
}


def connect(seconds: float = CALL_SECONDS) -> DockerClient:
    """A client of the engine that the docker command talks to. Raises EngineError, or DockerException.

    `seconds` is how long it waits for each answer.
    """
    import docker

    # The package knows DOCKER_HOST, but not the docker command's contexts.
    return docker.from_env(environment=engine.environment(), timeout=int(seconds))


def there_is_something() -> bool:
    """Return whether the engine has anything of the stack. False without an engine."""
    from docker.errors import DockerException

    try:
        return bool(leftovers(connect()))
    except (engine.EngineError, DockerException, OSError):
        return False


def leftovers(client: DockerClient) -> list[str]:
    """The names of all containers, networks and volumes of the stack. Raises DockerException."""
    label: dict[str, str | list[str] | bool] = {"label": f"{PROJECT_LABEL}={settings.PROJECT}"}
    return [
        *(str(one.name) for one in client.containers.list(all=True, filters=label, ignore_removed=True)),
        *(str(one.name) for one in client.networks.list(filters=label)),
        *(str(one.name) for one in client.volumes.list(filters=label)),
    ]


def containers(seconds: float = CALL_SECONDS) -> dict[str, list[Container]]:
    """The stack's containers by part. Raises EngineError, or DockerException."""
    label: dict[str, Any] = {"label": [f"{PROJECT_LABEL}={settings.PROJECT}", f"{ONE_OFF_LABEL}=False"]}
    found: dict[str, list[Container]] = {}
    for container in connect(seconds).containers.list(all=True, filters=label, ignore_removed=True):
        found.setdefault(container.labels[SERVICE_LABEL], []).append(container)
    return found


def published_ports() -> set[int]:
    """The ports of this machine that the stack's running containers have."""
    from docker.errors import DockerException

    try:
        found = containers()
    except (engine.EngineError, DockerException, OSError):
        return set()
    bindings = [container.ports for own in found.values() for container in own]
    return {int(one["HostPort"]) for ports in bindings for many in ports.values() for one in many or []}


# Status.


def parts() -> list[Part]:
    """Every part, also those that are down or left out. Takes a second or two, in which the engine looks twice."""
    found = containers()
    names = [*pieces(PLACE), WORKERS]
    everyone = [one for name in names for one in found.get(name, [])]
    with ThreadPoolExecutor(len(names) + len(everyone)) as pool:
        health = dict(zip(names, pool.map(lambda name: healthy(name, found.get(name, [])), names), strict=True))
        costs = dict(zip(everyone, pool.map(usage, everyone), strict=True))
    shown = [
        part(name, found[name], health[name], [costs[one] for one in found[name]]) if name in found else absent(name)
        for name in names
    ]
    return [*shown, *(Part(name, PLACE, "absent", "-", "", 0, 0.0, 0, why) for name, why in LEFT_OUT[PLACE].items())]


def part(name: str, own: Sequence[Container], health: bool, costs: Sequence[tuple[float, int]]) -> Part:
    """A part that has containers; `costs` is the `usage` of each."""
    piece = pieces(PLACE).get(name)
    first = own[0].attrs["State"]
    # Where there are several, the one that is worst off speaks for them.
    state = next((one.status for one in own if one.status != "running"), "running")
    return Part(
        name=name,
        place=PLACE,
        state=state,
        health=("ok" if health else "failing") if first["Pid"] else "-",
        url=piece.port.url if piece else "",
        pid=first["Pid"],
        cpu_percent=sum(percent for percent, _ in costs),
        memory_bytes=sum(memory for _, memory in costs),
        detail="; ".join(details(own)),
    )


def details(own: Sequence[Container]) -> Iterator[str]:
    """Yield details of the containers of a part."""
    if len(own) > 1:
        yield f"{len(own)} containers"
    for container in own:
        state = container.attrs["State"]
        if state["OOMKilled"]:
            yield "ran out of its memory limit"
        if state["Error"]:
            yield state["Error"]
        elif container.status == "exited":
            yield f"ended with {state['ExitCode']}: docker logs {container.name}"


def absent(name: str) -> Part:
    """A part that has no container."""
    if name in declared():
        return Part(name, PLACE, "missing", "failing", "", 0, 0.0, 0, "it should run: `lab up` starts it")
    return Part(name, PLACE, "absent", "-", "", 0, 0.0, 0, ABSENT_DETAILS.get(name, ""))


def healthy(name: str, own: Sequence[Container]) -> bool:
    """Return whether the part responds at its port; one without a port does if all its containers run."""
    piece = pieces(PLACE).get(name)
    return piece.answers() if piece else bool(own) and all(one.status == "running" for one in own)


def usage(container: Container) -> tuple[float, int]:
    """Per cent of one core in the last second, and bytes of memory; zeros for a container that does not run."""
    from docker.errors import DockerException

    try:
        stats = cast("dict[str, Any]", container.stats(stream=False))
        memory = stats["memory_stats"]
        # As `docker stats` counts: without the file cache that the kernel would give up first.
        cache = memory["stats"].get("total_inactive_file", memory["stats"].get("inactive_file", 0))
        return cpu_percent(stats), memory["usage"] - cache
    except (DockerException, KeyError, OSError):
        return 0.0, 0


def cpu_percent(stats: dict[str, Any]) -> float:
    """Per cent of one core between the two looks that `stats` tells of."""
    now, before = (stats[key]["cpu_usage"]["total_usage"] / 1e9 for key in ("cpu_stats", "precpu_stats"))
    elapsed = datetime.fromisoformat(stats["read"]) - datetime.fromisoformat(stats["preread"])
    share: float = (now - before) / elapsed.total_seconds()
    return max(0.0, share * 100)


def missing(names: Sequence[str]) -> list[str]:
    """Those of the parts that do not answer. Raises DockerException."""
    found = containers()
    return [name for name in names if not healthy(name, found.get(name, []))]


def failed() -> list[str]:
    """The parts that Docker starts again and again."""
    return [name for name, own in containers().items() if any(one.attrs["RestartCount"] >= 3 for one in own)]


def log_of(name: str) -> str:
    """Where to read what a part says."""
    return f"docker compose logs {name}"


def last_lines(name: str) -> str:
    """The end of a part's log, indented."""
    own = containers().get(name, [])
    lines = own[0].logs(tail=LOG_LINES).decode(errors="replace").splitlines() if own else []
    return "\n".join(f"    {line}" for line in lines or ["(it has written nothing)"])


def end() -> list[str]:
    """Remove containers, network and volumes, also what was started by hand; a line for what cannot be removed.

    Raises EngineError, DockerException or OSError.
    """
    engine.find()  # or Compose would be asked, and say nothing of use
    done = images.compose("--profile", "*", "down", "--volumes", "--remove-orphans")
    if done.returncode:
        return (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
    left = leftovers(connect())
    return [f"still there: {', '.join(left)}"] if left else []
