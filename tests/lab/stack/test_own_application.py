"""LAB_APP and LAB_APP_DIR, before anything starts; and the servers' options that come of them."""

from __future__ import annotations

import os

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from lab import settings
from lab.stack import own_application, playbook


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


@pytest.mark.parametrize(
    ("name", "folder", "place", "text"),
    [
        ("shop", "", "local", "give MODULE:ATTRIBUTE"),
        ("nothing:app", "", "local", "there is no module 'nothing'"),
        ("shop:app", "/nowhere", "local", "there is no module 'shop'"),
        ("shop:app", "", "vms", "in the local place"),
    ],
)
def test_what_cannot_be_had_is_refused(app, monkeypatch, name, folder, place, text):
    monkeypatch.setenv("LAB_APP", name)
    if folder:
        monkeypatch.setenv("LAB_APP_DIR", folder)
    with pytest.raises(settings.SettingError, match=text):
        own_application.prepare(place)


def test_servers_are_given_it_by_the_role():
    (task,) = yaml.safe_load((playbook.PROVISIONING / "roles" / "model" / "tasks" / "main.yml").read_text())
    given = task["vars"]["model_app"]

    def rendered(app: str) -> dict:
        templar = Templar(DataLoader(), variables={"lab_app": app, "lab_app_dir": "/my shop"})
        return templar.template(trust_as_template(given))

    assert rendered("shop:app") == {"app": "shop:app", "app-dir": "/my shop"}
    assert rendered("") == {}
    assert "model_app" in task["vars"]["model_program"]["options"]
