"""Home: where to begin. Grafana opens with it (`home_page` in grafana/grafana.ini)."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboardlist, text
from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.models.text import TextMode

from dashboards.parts import COLUMNS, CONSOLE_VARIABLE, TAG, Limit, Query, Section, graph, number, page
from dashboards.promql import MODEL, OVER

CONSOLE_URL = f"${{{CONSOLE_VARIABLE}:raw}}"
BEGIN = f"""\
Five servers with the same protocols, and five ways to accept a connection and to execute a request.

1. Make load: `make load`, or the buttons of the [live page]({CONSOLE_URL}/).
2. Open *Compare the five models*, look for the model that differs, and ask *Anatomy of a request* where its time goes.
3. Click a value: its link leads to the experiment that shows the cause. All are in the
   [list of experiments]({CONSOLE_URL}/experiments); loads and experiments that ran are [kept]({CONSOLE_URL}/runs).

Purple lines mark when experiments and loads ran.
"""


def begin() -> Section:
    """Text, and the other dashboards."""
    return "Begin", [
        text.Panel()
        .title("Where to begin")
        .description("Three steps, from no load to the cause of a figure.")
        .mode(TextMode.MARKDOWN)
        .content(BEGIN)
        .span(COLUMNS // 2)
        .height(9),
        dashboardlist.Panel()
        .title("Dashboards")
        .description("All dashboards of the lab, by their tag; time and models stay as they are chosen.")
        .show_starred(False)
        .show_recently_viewed(False)
        .show_search(True)
        .show_headings(False)
        .tags([TAG])
        .keep_time(True)
        .include_vars(True)
        .max_items(COLUMNS)
        .span(COLUMNS // 2)
        .height(9),
    ]


def state() -> Section:
    """Signs of life, and of trouble."""
    return "State of the lab", [
        number(
            "Workers that serve",
            "short",
            "Workers that take requests now. A model that is missing is not scraped: ask `make lab-status`.",
            Query(f"count by (model) (lab_worker_serving{{{MODEL}}} == 1)", "{{model}}"),
            width=COLUMNS // 3,
        ),
        number(
            "Alerts that fire",
            "short",
            "Conditions of dashboards/prometheus/rules/alerts.yml that are met now. Prometheus lists them.",
            Query('count(ALERTS{alertstate="firing"}) or vector(0)', "alerts"),
            limit=Limit(red=1),
            width=COLUMNS // 6,
        ),
        graph(
            "Requests/s of all models together",
            "reqps",
            "Zero: there is no load, and the other dashboards have little to show.",
            [Query(f"sum(rate(lab_requests_total{{{MODEL}}}{OVER}))", "requests")],
        ),
    ]


def dashboard() -> Dashboard:
    """Text, links, and three figures."""
    return page(
        "home",
        "Accept lab",
        "Where to begin, which dashboards there are, and whether the lab runs.",
        [begin(), state()],
    )
