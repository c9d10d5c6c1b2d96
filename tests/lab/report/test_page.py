"""The pages of runs: what they say, that they need nothing else, and that no text of a run is taken for HTML."""

import re
from html.parser import HTMLParser

import pytest

from lab.report import page
from lab.results import StoredRun, runs


class Reader(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.words = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def test_page_needs_nothing_else(document):
    html = page.of_run(document)
    reader = Reader(html)
    assert not {"link", "script", "img", "iframe", "object"} & set(reader.tags)
    for name, value in reader.attributes:
        if name in {"src", "href", "xlink:href", "data"}:
            assert value.startswith("#") or value == "../index.html"
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", html))
    assert "@import" not in html


def test_page_shows_claim_expected_and_measured_side_by_side(document):
    html = page.of_run(document)
    rows = [Reader(row).text for row in re.findall(r"<tr>.*?</tr>", html, re.DOTALL)]
    assert any(
        re.fullmatch(r"holds the queue is short ?a paper at most 2 ms mean 1.6 ms \(1.5 to 1.7\)", row) for row in rows
    )
    assert any(row.startswith("fails the queue | is long") for row in rows)
    assert "lab run made-up" in Reader(html).text
    assert "3.11.7 with the GIL" in Reader(html).text


def test_text_of_a_run_is_no_html(document):
    reader = Reader(page.of_run(document))
    assert "Which queue is <b>shorter</b>?" in reader.text
    assert "<sharded>" in reader.text
    assert "0.000 SYN <&>" in reader.text
    assert "<script>alert(1)</script>" in reader.text
    assert "strong" in reader.tags


def test_a_page_has_each_id_once_and_all_that_it_refers_to(document):
    html = page.of_run(document)
    ids = re.findall(r'\bid="([^"]*)"', html)
    assert len(ids) == len(set(ids))
    assert {*re.findall(r"url\(#([^)]*)\)", html), *re.findall(r'href="#([^"]*)"', html)} <= set(ids)


def test_everything_that_was_observed_is_drawn(document):
    html = page.of_run(document)
    for title in ("Requests by worker", "Latencies: all", "Over time: accept queue 0", "Every trial"):
        assert f"<h2>{title}</h2>" in html
    assert html.count("<svg") == 4


def test_one_trial_needs_no_picture_of_every_trial(document):
    for arm in document["arms"]:
        arm["trials"] = arm["trials"][:1]
    assert "Every trial" not in page.of_run(document)


def test_a_run_of_long_ago_can_be_shown(document):
    for name in ("begun", "effort", "command", "control"):
        del document[name]
    for arm in document["arms"]:
        arm["trials"] = [{"metrics": trial["metrics"]} for trial in arm["trials"]]
    assert "the queue is short" in page.of_run(document)


def test_a_control_says_that_it_is_meant_to_fail(document):
    assert "swapped" in Reader(page.of_run(document | {"control": "swapped"})).text


def test_reasons_of_an_open_verdict_are_shown(document):
    text = Reader(page.of_run(document | {"verdict": "inconclusive", "inconclusive": ["needs 4 cores"]})).text
    assert "needs 4 cores" in text


def test_index_lists_all_runs_and_calls_those_without_result_interrupted(keep, results, document):
    keep("20261123T220000.000-made-up", document)
    keep("20261123T230000.000-made-up")
    html = page.write_index(results).read_text(encoding="utf-8")
    assert html.index("2026-11-23 23:00") < html.rindex("2026-11-23 22:00")
    assert html.count(">interrupted<") == 1
    assert 'href="20261123T220000.000-made-up/report.html"' in html
    assert "1 of 2" in html


def test_index_prefers_a_full_run_to_a_later_quick_one_and_leaves_controls_out(keep, results, document):
    keep("20261123T220000.000-made-up", document)
    keep("20261123T230000.000-made-up", document | {"effort": "quick", "verdict": "holds"})
    keep("20261123T233000.000-made-up-swapped", document | {"control": "swapped"})
    (latest,) = page._latest(runs(results)[::-1])
    assert latest.name == "20261123T220000.000-made-up"


def test_index_of_nothing_says_how_to_begin(results):
    results.mkdir(parents=True)
    assert "lab run NAME" in page.write_index(results).read_text(encoding="utf-8")


def test_a_page_is_written_whole_beside_its_result(keep, document):
    folder = keep("20261123T220000.000-made-up", document)
    assert page.write(StoredRun(folder, document)) == folder / "report.html"
    assert sorted(file.name for file in folder.iterdir()) == ["report.html", "result.json"]


def test_a_run_without_result_has_no_page(keep):
    folder = keep("20261123T220000.000-made-up")
    with pytest.raises(ValueError, match="no result"):
        page.write(StoredRun(folder, None))


@pytest.mark.parametrize(("holds", "shown"), [(True, 1), (False, 0), (None, 0)])
def test_claim_that_holds_is_set_beside_what_is_often_said(document, holds, shown):
    check = document["checks"][0]
    check["corrects"] = {"statement": "L6", "often_said": "Queues are <short>.", "truth": "One is."}
    check["holds"] = holds
    html = page.of_run(document)
    assert (
        html.count("Often said: “Queues are &lt;short&gt;.” (L6) Measured: mean 1.6 ms (1.5 to 1.7). One is.") == shown
    )
