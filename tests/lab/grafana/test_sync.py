"""`lab grafana sync`: what reaches Grafana, what a second run does, and what is left alone."""

from __future__ import annotations

import json

import pytest
from support.fake_grafana import FakeGrafana, serve_grafana

from dashboards.parts import CONSOLE
from lab.grafana import sync

COMPARE = {"uid": "lab-compare", "title": "Compare", "schemaVersion": 41, "panels": [{"id": 1, "type": "timeseries"}]}
QUEUES = {"uid": "lab-queues", "title": "Kernel queues", "id": None, "version": 7, "panels": []}


@pytest.fixture
def boards(folder):
    (folder / "json").mkdir()
    for board in (COMPARE, QUEUES):
        (folder / "json" / f"{board['uid']}.json").write_text(json.dumps(board))
    (folder / "prometheus.yml").write_text("rule_files: []")
    return folder / "json"


def outcomes(done) -> dict[str, str]:
    assert done.exit_code in {0, 2}, done.output
    return {item["uid"]: item["outcome"] for item in json.loads(done.stdout)["items"]}


def all_are(outcome: str) -> dict[str, str]:
    return dict.fromkeys(("lab-prometheus", "lab", "lab-compare", "lab-queues"), outcome)


@pytest.mark.parametrize("version", ["9.0.1", "10.4.0", "12.4.0", "13.0.0"])
def test_sync_pushes_everything_once(lab, grafana, boards, version):
    grafana.version = version
    first = lab("sync", "--json")
    assert outcomes(first) == all_are("created")
    assert first.exit_code == 0
    source = grafana.data_sources["lab-prometheus"]
    assert (source["type"], source["access"], source["url"]) == ("prometheus", "proxy", "http://127.0.0.1:9090")
    assert source["jsonData"]["timeInterval"] == "1s"
    assert grafana.folders["lab"]["title"] == "Accept lab"
    compare = grafana.dashboards["lab-compare"]
    assert COMPARE.items() <= compare["dashboard"].items()
    assert compare["meta"]["folderUid"] == "lab"

    del grafana.requests[:]
    second = lab("sync")
    assert second.stdout.count("unchanged") == 4
    assert "nothing changed" in second.stderr
    assert grafana.writes == []


def test_sync_finds_the_dashboards_that_ship(lab, grafana, monkeypatch):
    monkeypatch.setattr(sync.read_dashboards, "__defaults__", (sync.DASHBOARDS,))
    shipped = {path.stem for path in (sync.DASHBOARDS / "json").glob("*.json")}
    assert len(shipped) >= 6
    assert outcomes(lab("sync", "--json")) == dict.fromkeys({"lab-prometheus", "lab", *shipped}, "created")
    assert set(outcomes(lab("sync", "--json")).values()) == {"unchanged"}


def test_dashboards_lead_to_the_live_page_where_it_is(lab, grafana, monkeypatch):
    monkeypatch.setattr(sync.read_dashboards, "__defaults__", (sync.DASHBOARDS,))
    monkeypatch.setenv("LAB_CONSOLE_PORT", "28080")
    lab("sync")
    pushed = [json.dumps(board["dashboard"]) for board in grafana.dashboards.values()]
    assert len(pushed) >= 6
    assert all('"http://127.0.0.1:28080"' in board and CONSOLE not in board for board in pushed)


def test_sync_without_dashboards_pushes_the_rest_and_says_so(lab, grafana):
    done = lab("sync")
    assert done.exit_code == 0
    assert done.stdout.count("created") == 2
    assert "no dashboard below dashboards/" in done.stderr


def test_dry_run_writes_nothing(lab, grafana, boards):
    done = lab("sync", "--dry-run")
    assert done.stdout.count("to be created") == 4
    assert "4 to change" in done.stderr
    assert grafana.writes == []


def test_changed_file_updates_its_dashboard_only(lab, grafana, boards):
    lab("sync")
    (boards / "lab-compare.json").write_text(json.dumps({**COMPARE, "panels": []}))
    assert outcomes(lab("sync", "--json")) == {**all_are("unchanged"), "lab-compare": "updated"}
    saved = grafana.dashboards["lab-compare"]["dashboard"]
    assert (saved["panels"], saved["version"]) == ([], 2)


def test_dashboard_that_was_edited_or_moved_is_put_right(lab, grafana, boards):
    lab("sync")
    grafana.dashboards["lab-compare"]["dashboard"]["title"] = "Edited"
    grafana.dashboards["lab-queues"]["meta"]["folderUid"] = ""
    assert outcomes(lab("sync", "--json")) == {
        **all_are("unchanged"),
        "lab-compare": "updated",
        "lab-queues": "updated",
    }
    assert grafana.dashboards["lab-compare"]["dashboard"]["title"] == "Compare"
    assert grafana.dashboards["lab-queues"]["meta"]["folderUid"] == "lab"


def test_provisioned_objects_are_left_alone(lab, grafana, boards):
    grafana.add_data_source("lab-prometheus", url="http://prometheus:9090", readOnly=True)
    grafana.add_folder("lab", "From files")
    grafana.add_dashboard({**COMPARE, "title": "From files"}, "lab", provisioned=True)
    done = lab("sync")
    assert done.exit_code == 0
    assert done.stdout.count("left alone") == 2
    assert grafana.writes == [("POST", "/api/dashboards/db")]  # the one that is not provisioned
    assert grafana.data_sources["lab-prometheus"]["url"] == "http://prometheus:9090"


def test_update_of_the_data_source_keeps_what_its_owner_set(lab, grafana):
    theirs = {
        "name": "Mine",
        "isDefault": True,
        "basicAuth": True,
        "basicAuthUser": "me",
        "secureJsonFields": {"p": True},
    }
    grafana.add_data_source("lab-prometheus", url="http://old:9090", jsonData={"prometheusType": "Mimir"}, **theirs)
    assert outcomes(lab("sync", "--prometheus-url", "http://new:9090", "--json"))["lab-prometheus"] == "updated"
    source = grafana.data_sources["lab-prometheus"]
    assert source["url"] == "http://new:9090"
    assert theirs.items() <= source.items()
    assert source["jsonData"] == {"prometheusType": "Mimir", "httpMethod": "POST", "timeInterval": "1s"}


def test_prometheus_url_comes_from_its_variable(lab, grafana, monkeypatch):
    monkeypatch.setenv("LAB_GRAFANA_PROMETHEUS_URL", "http://prometheus:9090")
    lab("sync")
    assert grafana.data_sources["lab-prometheus"]["url"] == "http://prometheus:9090"


def test_other_objects_are_not_touched(lab, grafana, boards):
    grafana.add_data_source("theirs", name="Prometheus", isDefault=True)
    grafana.add_folder("theirs", "Theirs")
    grafana.add_dashboard({"uid": "theirs", "title": "Compare"}, "theirs")
    before = json.dumps([grafana.data_sources["theirs"], grafana.folders["theirs"], grafana.dashboards["theirs"]])
    lab("sync")
    after = json.dumps([grafana.data_sources["theirs"], grafana.folders["theirs"], grafana.dashboards["theirs"]])
    assert after == before


def test_name_that_another_data_source_has_is_refused_and_the_rest_pushed(lab, grafana, boards):
    grafana.add_data_source("theirs", name="Lab Prometheus")
    done = lab("sync", "--json")
    assert outcomes(done) == {**all_are("created"), "lab-prometheus": "refused"}
    assert done.exit_code == 2
    refusal = json.loads(done.stdout)["items"][0]["detail"]
    assert "same name already exists" in refusal
    assert "rename" in refusal


def test_dashboard_that_someone_saves_meanwhile_is_not_overwritten(lab, grafana, boards):
    lab("sync")
    (boards / "lab-compare.json").write_text(json.dumps({**COMPARE, "panels": []}))
    grafana.before_write = lambda: grafana.add_dashboard({**COMPARE, "title": "Theirs"}, "lab")
    done = lab("sync")
    assert done.exit_code == 2
    assert "changed by someone else" in done.stdout, done.stderr
    assert "run it again" in done.stdout
    assert grafana.dashboards["lab-compare"]["dashboard"]["title"] == "Theirs"


@pytest.mark.parametrize("version", ["12.4.0", "13.0.0"])
def test_editor_pushes_all_but_the_data_source(lab, grafana, boards, version):
    grafana.version, grafana.tokens = version, {"secret": "Editor"}
    done = lab("sync", "--json")
    assert outcomes(done) == {**all_are("created"), "lab-prometheus": "refused"}
    assert done.exit_code == 2
    refusal = json.loads(done.stdout)["items"][0]["detail"]
    assert "Admin role" in refusal
    assert "datasources:create" in refusal


def test_viewer_is_told_which_role_is_needed(lab, grafana, boards):
    grafana.tokens = {"secret": "Viewer"}
    done = lab("sync")
    assert done.exit_code == 2
    assert done.stdout.count("Editor role") == 3
    assert grafana.dashboards == {}


def test_anonymous_admin_needs_no_token(lab, boards):
    with serve_grafana(FakeGrafana(anonymous="Admin"), prefix="/grafana") as grafana:
        assert outcomes(lab("sync", "--url", f"{grafana.url}/", "--json")) == all_are("created")


def test_user_and_password_work_in_place_of_a_token(lab, grafana):
    grafana.users = {"ann:pass:word": "Admin"}
    assert lab("sync", "--user", "ann:pass:word").exit_code == 0
    assert lab("sync", "--user", "ann:wrong").exit_code == 2


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("{", "not JSON"),
        ("[]", "not a dashboard"),
        ('{"title": "No uid"}', "uid"),
        (json.dumps(COMPARE), "'lab-compare'"),
    ],
)
def test_file_that_is_no_dashboard_is_named_before_anything_is_written(lab, grafana, boards, content, word):
    (boards / "other.json").write_text(content)
    done = lab("sync")
    assert done.exit_code == 2
    assert word in done.stderr
    assert grafana.requests == []
