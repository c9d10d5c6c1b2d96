"""Parts of every dashboard: queries, panels, variables, links.

Everything is a builder of Grafana's own SDK; this adds what all of ours have in common, so that a dashboard's file
says only what it shows and how to read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from grafana_foundation_sdk.builders import common, heatmap, prometheus, stat, timeseries
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

DATA_SOURCE_UID, DATA_SOURCE_TITLE = "lab-prometheus", "Lab Prometheus"
"""As `lab grafana sync` and `grafana/provisioning` name it: chosen to begin with."""
DATA_SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
TAG = "accept-lab"
ANNOTATIONS_TAG = "lab"
"""Tag of the moments that `lab grafana annotate` and the experiments mark."""
REFRESH = "5s"
"""Grafana refuses less, unless its administrator allows it."""
LEAST_STEP = "2s"
"""Of a query: two scrapes. A rate is taken over four (`$__rate_interval`), which is short enough to see an overflow."""
MODELS_IN_A_ROW = 3
"""Panels that are repeated for each model: five are two rows of them."""
COLUMNS = 24
LIMIT = " limit"
"""End of the names of series that are the bound of a figure: they are dashed."""
DASHED = models.DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [10, 10]})

GREEN, YELLOW, RED = "green", "yellow", "red"

CONSOLE_VARIABLE = "console"
CONSOLE = "http://127.0.0.1:8080"
"""Address of the console; a hidden constant of every dashboard, so another address is set in one place."""
Experiment = Literal[
    "accept-queue-overflow",
    "syn-queue-overflow",
    "thundering-herd",
    "busiest-worker",
    "reuseport-spread",
    "hot-connections",
    "dispatch-bottleneck",
    "stalled-worker",
    "shared-or-sharded",
    "event-loop-blocking",
    "slow-reader-server",
    "slow-reader-client",
    "process-or-thread",
    "copy-on-write",
    "handshake",
    "idempotent-retries",
    "lost-updates",
]
"""Those that a panel can point to: the console has each below `/experiments/` and its name."""

T = TypeVar("T", covariant=True)


class DataLink(models.DashboardLink):
    """Opens when a value is clicked. It has fewer fields than the SDK's class for links of every sort writes."""

    def to_json(self) -> dict[str, object]:
        """Return the fields that Grafana documents of a data link."""
        return {"title": self.title, "url": self.url, "targetBlank": self.target_blank}


@dataclass(frozen=True)
class Built(Builder[T], Generic[T]):
    """Something complete, where the SDK asks for a builder."""

    whole: T

    def build(self) -> T:
        """The thing itself."""
        return self.whole


@dataclass(frozen=True, slots=True)
class Query:
    """A PromQL expression, and what its series are called: `{{label}}` stands for a label's value."""

    expression: str
    name: str

    def build(self, number: int) -> prometheus.Dataquery:
        """The SDK's own."""
        letter = chr(ord("A") + number)
        return (
            prometheus.Dataquery()
            .expr(self.expression)
            .interval(LEAST_STEP)
            .legend_format(self.name)
            .ref_id(letter)
            .range()
        )


@dataclass(frozen=True, slots=True)
class Limit:
    """Bounds at which a value becomes worth a look (yellow) or bad (red)."""

    yellow: float | None = None
    red: float | None = None

    def build(self) -> builders.ThresholdsConfig:
        """The SDK's own."""
        steps = [(None, GREEN), (self.yellow, YELLOW), (self.red, RED)]
        return (
            builders.ThresholdsConfig()
            .mode(models.ThresholdsMode.ABSOLUTE)
            .steps([models.Threshold(value=value, color=color) for value, color in steps
                    if value is not None or color == GREEN])
        )  # fmt: skip

    def drawn_on(self, panel: timeseries.Panel) -> timeseries.Panel:
        """The panel, with a dashed line at each."""
        style = common.GraphThresholdsStyleConfig().mode(looks.GraphThresholdsStyleMode.DASHED)
        return panel.thresholds(self.build()).thresholds_style(style)


def graph(
    title: str,
    unit: str,
    look_for: str,
    queries: Sequence[Query],
    *,
    limit: Limit | None = None,
    stacked: bool = False,
    ratio: bool = False,
    a_model: bool = False,
    width: int = COLUMNS // 2,
    shown_by: Sequence[Experiment] = (),
) -> timeseries.Panel:
    """Values over time.

    `look_for` says what to look for and what it means; `ratio` fixes the axis to 0 … 1; `a_model` makes one panel for
    each model that is chosen; `shown_by` are the experiments that a click on a value leads to.
    """
    panel = (
        lines(title, unit, look_for)
        .span(width)
        .fill_opacity(60 if stacked else 8)
        .data_links(to_experiments(shown_by))
        .targets([query.build(number) for number, query in enumerate(queries)])
    )
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(looks.StackingMode.NORMAL))
    if ratio:
        panel = panel.max(1)
    if a_model:
        panel = panel.title(f"{title}: $model").repeat("model").repeat_direction("h").max_per_row(MODELS_IN_A_ROW)
    if limit is not None:
        panel = limit.drawn_on(panel)
    if any(query.name.endswith(LIMIT) for query in queries):
        panel = panel.override_by_regexp(f"/{LIMIT}$/", [DASHED])
    return panel


def lines(title: str, unit: str, look_for: str) -> timeseries.Panel:
    """Settings that all graphs have in common."""
    return (
        timeseries.Panel()
        .title(title)
        .description(look_for)
        .unit(unit)
        .datasource(DATA_SOURCE)
        .min(0)
        .height(8)
        .line_width(2)
        .show_points(looks.VisibilityMode.NEVER)
        .tooltip(common.VizTooltipOptions().mode(looks.TooltipDisplayMode.MULTI).sort(looks.SortOrder.DESCENDING))
        .legend(
            common.VizLegendOptions()
            .display_mode(looks.LegendDisplayMode.TABLE)
            .placement(looks.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["lastNotNull", "max"])
        )
    )


def number(
    title: str,
    unit: str,
    look_for: str,
    query: Query,
    *,
    limit: Limit | None = None,
    width: int = COLUMNS // 4,
    shown_by: Sequence[Experiment] = (),
) -> stat.Panel:
    """The latest value of each series, large enough for the back of a room."""
    panel = (
        stat.Panel()
        .title(title)
        .description(look_for)
        .unit(unit)
        .datasource(DATA_SOURCE)
        .span(width)
        .height(5)
        .color_mode(looks.BigValueColorMode.VALUE)
        .graph_mode(looks.BigValueGraphMode.AREA)
        .data_links(to_experiments(shown_by))
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .targets([query.build(0)])
    )
    return panel.thresholds((limit or Limit()).build())


def spread(
    title: str, look_for: str, expression: str, *, width: int = COLUMNS, shown_by: Sequence[Experiment] = ()
) -> heatmap.Panel:
    """A histogram over time: how many requests took how long. `expression` keeps the label `le`."""
    query = Query(expression, "{{le}}").build(0).format(PromQueryFormat.HEATMAP)
    return (
        heatmap.Panel()
        .title(title)
        .description(look_for)
        .unit("reqps")  # of a cell; the axis has a unit of its own
        .y_axis(heatmap.YAxisConfig().unit("s"))
        .mode(looks.TooltipDisplayMode.SINGLE)  # the tooltip, which holds the links
        .datasource(DATA_SOURCE)
        .span(width)
        .height(9)
        .calculate(False)
        .data_links(to_experiments(shown_by))
        .targets([query])
    )


def to_experiments(names: Sequence[Experiment]) -> list[Builder[models.DashboardLink]]:
    """Links to where the console explains and runs them."""
    return [
        Built(
            DataLink(
                title=f"Experiment: {name}",
                url=f"${{{CONSOLE_VARIABLE}:raw}}/experiments/{name}",
                target_blank=True,
            )
        )
        for name in names
    ]


Section = tuple[str, Sequence[Builder[models.Panel]]]
"""A heading, and the panels below it."""


def page(
    name: str,
    title: str,
    purpose: str,
    sections: Sequence[Section],
    *,
    by_worker: bool = False,
    links: Sequence[builders.DashboardLink] = (),
) -> builders.Dashboard:
    """A dashboard; its uid is `lab-` and the name, for good: links and bookmarks hold it.

    `by_worker` adds the variable `worker`, where panels can be narrowed to some; `links` stand beside the menu of the
    other dashboards.
    """
    board = (
        builders.Dashboard(title)
        .uid(f"lab-{name}")
        .description(purpose)
        .tags([TAG])
        .editable()
        .refresh(REFRESH)
        .time("now-5m", "now")
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .annotation(experiments())
        .links([siblings(), *links])
        .variables([data_source(), model_variable(), *([worker_variable()] if by_worker else []), console()])
    )
    for heading, panels in sections:
        board = board.with_row(builders.Row(heading))
        for panel in panels:
            board = board.with_panel(panel)
    return board


def model_variable() -> builders.QueryVariable:
    """Choice of models; all to begin with."""
    return choices("model", "Model", "label_values(lab_info, model)")


def worker_variable() -> builders.QueryVariable:
    """Choice of workers of those models: `main`, `0`, `1`, …; all to begin with."""
    return choices("worker", "Worker", 'label_values(lab_requests_total{model=~"$model"}, worker)')


def choices(name: str, label: str, query: str) -> builders.QueryVariable:
    """A variable whose values Prometheus knows."""
    return (
        builders.QueryVariable(name)
        .label(label)
        .query(query)
        .datasource(DATA_SOURCE)
        .multi(True)
        .include_all(True)
        .all_value(".+")
        .current(models.VariableOption(text="All", value="$__all"))
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.NUMERICAL_ASC)
    )


def data_source() -> builders.DatasourceVariable:
    """Choice of a Prometheus: an imported dashboard finds its own."""
    return (
        builders.DatasourceVariable("datasource")
        .label("Data source")
        .type("prometheus")
        .current(models.VariableOption(text=DATA_SOURCE_TITLE, value=DATA_SOURCE_UID))
    )


def console() -> Builder[models.VariableModel]:
    """Address that links to experiments lead to. No part of a dashboard's own: a link would override it."""
    variable = builders.ConstantVariable(CONSOLE_VARIABLE).value(CONSOLE).build()
    variable.skip_url_sync = True
    return Built(variable)


def siblings() -> builders.DashboardLink:
    """A menu of the other dashboards, which keeps what is chosen here."""
    return (
        builders.DashboardLink("The lab's dashboards")
        .type(models.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .as_dropdown(True)
        .keep_time(True)
        .include_vars(True)
    )


def to_console(title: str, path: str) -> builders.DashboardLink:
    """A link to one of the console's pages."""
    return (
        builders.DashboardLink(title)
        .type(models.DashboardLinkType.LINK)
        .icon("external link")
        .url(f"${{{CONSOLE_VARIABLE}:raw}}{path}")
        .target_blank(True)
    )


def experiments() -> builders.AnnotationQuery:
    """Marks of experiments, and of `lab grafana annotate`."""
    return (
        builders.AnnotationQuery()
        .name("Experiments")
        .datasource(models.DataSourceRef(type_val="grafana", uid="-- Grafana --"))
        .enable(True)
        .icon_color("purple")
        .target(builders.AnnotationTarget().type("tags").tags([ANNOTATIONS_TAG]).match_any(True).limit(100))
    )
