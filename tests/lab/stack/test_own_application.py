"""LAB_APP and LAB_APP_DIR, before anything starts; and the servers' options that come of them."""

from __future__ import annotations

import os

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from lab import settings
from lab.stack import bundle, own_application, playbook


@pytest.fixture
def app(monkeypatch, tmp_path):
    (tmp_path / "shop.py").touch()
    monkeypatch.setenv("LAB_APP", "shop:app")
    monkeypatch.setenv("LAB_APP_DIR", str(tmp_path))
    return tmp_path


def test_folder_becomes_absolute(app, monkeypatch):
    monkeypatch.chdir(app)
    monkeypatch.setenv("LAB_APP_DIR", ".")
    own_application.prepare("local")
    assert os.environ["LAB_APP_DIR"] == str(app)


def test_without_an_application_nothing_is_asked_for(app, monkeypatch):
    monkeypatch.setenv("LAB_APP", "")
    own_application.prepare("vms")
    assert "LAB_APP_DIR" not in os.environ


@pytest.mark.parametrize(
    ("name", "folder", "place", "text"),
    [
        ("shop", "", "local", "give MODULE:ATTRIBUTE"),
        ("nothing:app", "", "local", "there is no module 'nothing'"),
        ("shop:app", "/nowhere", "local", "there is no module 'shop'"),
    ],
)
def test_what_cannot_be_had_is_refused(app, monkeypatch, name, folder, place, text):
    monkeypatch.setenv("LAB_APP", name)
    if folder:
        monkeypatch.setenv("LAB_APP_DIR", folder)
    with pytest.raises(settings.SettingError, match=text):
        own_application.prepare(place)


def test_requirements_are_read_for_the_image(app, monkeypatch):
    (app / "needed.txt").write_text("flask>=3\nredis\n")
    app.chmod(0o755)
    monkeypatch.setattr(own_application, "unreadable", lambda _folder: iter(()))
    monkeypatch.setenv("LAB_APP_PACKAGES", "left over")
    monkeypatch.setenv("LAB_APP_REQUIREMENTS", str(app / "needed.txt"))
    own_application.prepare("containers")
    assert os.environ["LAB_APP_PACKAGES"] == "flask>=3\nredis\n"
    with pytest.raises(settings.SettingError, match="pip install -r"):
        own_application.prepare("local")
    monkeypatch.setenv("LAB_APP_REQUIREMENTS", "/nowhere")
    with pytest.raises(settings.SettingError, match="No such file"):
        own_application.prepare("containers")


def test_folder_that_containers_cannot_read_is_refused(app):
    (app / "shop.py").chmod(0o600)
    with pytest.raises(settings.SettingError, match=r"chmod -R a\+rX"):
        own_application.prepare("containers")


def test_hosts_get_the_folder_and_its_requirements_with_the_servers_code(app, monkeypatch):
    for name in ("templates/page.html", ".git/config", "__pycache__/x.pyc", "venv/lib.py"):
        (app / name).parent.mkdir(exist_ok=True)
        (app / name).write_text(name)
    monkeypatch.setenv("LAB_APP_PACKAGES", "flask>=3\n")
    monkeypatch.setattr(bundle, "code", lambda _kind: iter(()))
    packed = bundle.contents("servers")
    assert {name for name in packed if name.startswith("app/")} == {"app/shop.py", "app/templates/page.html"}
    assert packed["requirements/app.txt"] == b"flask>=3\n"
    assert not [name for name in bundle.contents("page") if "app" in name]


def test_folder_that_is_too_large_for_hosts_is_refused(app, monkeypatch):
    monkeypatch.setattr(own_application, "MAX_BYTES", 3)
    (app / "large").write_text("large")
    with pytest.raises(settings.SettingError, match="hosts get it whole"):
        own_application.prepare("vms")


def test_servers_are_given_it_by_the_role():
    (task,) = yaml.safe_load((playbook.PROVISIONING / "roles" / "model" / "tasks" / "main.yml").read_text())
    given = task["vars"]["model_app"]

    def rendered(app: str) -> dict:
        templar = Templar(DataLoader(), variables={"lab_app": app, "lab_app_dir": "/my shop"})
        return templar.template(trust_as_template(given))

    assert rendered("shop:app") == {"app": "shop:app", "app-dir": "/my shop"}
    assert rendered("") == {}
    assert "model_app" in task["vars"]["model_program"]["options"]
