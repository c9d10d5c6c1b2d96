"""What is said of engines that the lab cannot use. The docker command is a stand-in that says what real ones say."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.stack import doctor, engine, up_down

NO_ENGINE = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"
NO_PERMISSION = (
    "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock: "
    'Get "http://%2Fvar%2Frun%2Fdocker.sock/v1.24/version": dial unix /var/run/docker.sock: connect: permission denied'
)
NO_COMPOSE = "docker: 'compose' is not a docker command."
WELL = {"version": "echo 28.0.1", "compose": "echo v2.24.1", "info": "echo true", "context": "echo unix:///engine.sock"}


@pytest.fixture
def docker(tmp_path: Path, monkeypatch):
    """Make a docker command whose subcommands are shell commands; and others beside it."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("DOCKER_HOST", raising=False)

    def make(*others: str, **subcommands: str) -> None:
        cases = "".join(f"{name}) {command};;\n" for name, command in {**WELL, **subcommands}.items())
        for name in ("docker", *others):
            (tmp_path / name).write_text(f'#!/bin/sh\ncase "$1" in\n{cases}esac\n')
            (tmp_path / name).chmod(0o755)

    return make


def refuses(text: str) -> str:
    """A shell command that does as the docker command does with bad news."""
    return f"echo '{text}' >&2; exit 1"


def test_engine_that_answers_is_found(docker):
    docker()
    assert engine.find() == engine.Engine("unix:///engine.sock", "28.0.1", "2.24.1")


def test_address_of_the_environment_wins_over_the_context(docker, monkeypatch):
    docker()
    monkeypatch.setenv("DOCKER_HOST", "tcp://elsewhere:2375")
    assert engine.find().host == "tcp://elsewhere:2375"


@pytest.mark.parametrize(
    ("subcommands", "others", "words"),
    [
        ({"version": refuses(NO_ENGINE)}, (), ("no Docker engine answers at unix:///engine.sock", "start it")),
        ({"version": refuses(NO_PERMISSION)}, (), ("may not talk to the Docker engine", "usermod -aG docker")),
        ({"version": "echo 19.03.15"}, (), ("19.03.15", "20.10 or newer", "upgrade")),
        ({"compose": refuses(NO_COMPOSE)}, (), ("`docker compose` is missing", "install docker-compose-plugin")),
        ({"compose": refuses(NO_COMPOSE)}, ("docker-compose",), ("only Compose v1", "install docker-compose-plugin")),
        ({"compose": "echo 2.2.3"}, (), ("Compose is 2.2.3", "2.18 or newer", "install docker-compose-plugin")),
        ({"context": refuses("context not found: x")}, (), ("context not found: x", "docker context ls")),
    ],
)
def test_engine_that_cannot_be_used_is_one_line_with_a_remedy(docker, capsys, subcommands, others, words):
    docker(*others, **subcommands)
    with pytest.raises(up_down.RefusalError) as refusal:
        up_down.choose("containers")
    text = str(refusal.value)
    assert "\n" not in text
    assert [word for word in words if word not in text] == []
    assert engine.main() == 2
    assert capsys.readouterr().out == f"{text}\n"


def test_no_docker_command_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(up_down.RefusalError, match=r"no `docker` command: install a Docker engine.*PLACE=local$"):
        up_down.choose("containers")


def test_containers_cannot_be_ended_without_an_engine_and_that_is_one_line(docker, capsys):
    docker(compose=refuses(NO_COMPOSE))
    assert up_down.down("containers") == 2
    said = capsys.readouterr().err
    assert (said.count("\n"), "`docker compose` is missing: install docker-compose-plugin" in said) == (1, True), said


def test_engine_that_hangs_is_given_up(docker, monkeypatch):
    docker(version="exec sleep 60")
    monkeypatch.setattr(engine, "ANSWER_SECONDS", 0.2)
    with pytest.raises(engine.EngineError, match="no Docker engine answers"):
        engine.find()


def test_auto_falls_back_to_the_local_place_without_an_engine(docker, monkeypatch):
    docker(version=refuses(NO_ENGINE))
    monkeypatch.setattr(up_down.status, "place", lambda: "")
    assert up_down.choose("auto") == "local"


def test_doctor_says_what_is_wrong_with_the_engine_and_what_to_do(docker):
    docker(version=refuses(NO_PERMISSION), compose=refuses(NO_COMPOSE), info="exit 1")
    found = doctor.engine()
    assert (found.level, "may not talk" in found.detail, "usermod" in found.remedy) == ("warn", True, True)
    found = doctor.compose()
    assert (found.level, "missing" in found.detail, "docker-compose-plugin" in found.remedy) == ("warn", True, True)
    assert doctor.image_disk().level == "warn"


def test_doctor_looks_at_the_disk_that_holds_the_images(docker, tmp_path, monkeypatch):
    docker(info=f"echo {tmp_path}")
    assert str(tmp_path) in doctor.image_disk().detail
    monkeypatch.setattr(doctor, "IMAGE_DISK_WANTED_BYTES", 1 << 60)
    found = doctor.image_disk()
    assert (found.level, "docker image prune" in found.remedy) == ("warn", True)
    docker(info="echo /of/another/machine")
    assert doctor.image_disk().level == "ok"


def test_doctor_tells_control_groups(docker, tmp_path, monkeypatch):
    docker(info="echo true")
    monkeypatch.setattr(doctor, "CGROUPS", tmp_path)
    assert doctor.control_groups().level == "warn"
    (tmp_path / "memory").mkdir()
    assert "version 1" in doctor.control_groups().detail
    (tmp_path / "cgroup.controllers").touch()
    assert doctor.control_groups().detail == "version 2"
    docker(info="echo false")
    found = doctor.control_groups()
    assert (found.level, "cannot limit memory" in found.detail) == ("warn", True)


@pytest.mark.parametrize(
    ("machine", "level"), [("x86_64", "ok"), ("aarch64", "ok"), ("arm64", "ok"), ("riscv64", "warn")]
)
def test_doctor_tells_whether_there_are_images_for_the_architecture(monkeypatch, machine, level):
    monkeypatch.setattr(doctor.platform, "machine", lambda: machine)
    assert doctor.architecture().level == level
