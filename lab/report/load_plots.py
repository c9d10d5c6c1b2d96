"""Plots of a stored load: latency by percentile, and throughput, latency and queues over time."""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from lab.report.plots import DASHES, SERIES, Picture, draw, empty_figure, latencies, styled
from loadtests.histogram import Histogram

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.figure import Figure

MOST_CURVES = 6
"""More cannot be told apart: further repeats are in the table."""


def pictures(repeats: Mapping[str, Mapping[str, Any]]) -> list[Picture]:
    """Return the plots of a run's repeats by name; those without any response have no latencies."""
    shown = dict(islice(repeats.items(), MOST_CURVES))
    found = {name: Histogram.from_json(repeat["histogram"]) for name, repeat in shown.items() if repeat["requests"]}
    drawn = []
    with styled():
        if found:
            drawn.append(latencies(found))
        if any(repeat["series"] for repeat in shown.values()):
            caption = "Requests that ended in each second, and the longest that one of them took."
            drawn.append(Picture("Throughput and latency over time", caption, draw(_client, shown)))
        if any(repeat["server"].get("series") for repeat in shown.values()):
            caption = (
                "From the server's admin port each second: connections that wait to be accepted, connections or "
                "requests that wait for a worker, and processor time."
            )
            drawn.append(Picture("The server over time", caption, draw(_server, shown)))
    return drawn


def _client(shown: Mapping[str, Mapping[str, Any]]) -> Figure:
    def rate(repeat: Mapping[str, Any]) -> list[tuple[float, float]]:
        return [(each["second"], each["requests"]) for each in _whole(repeat)]

    def slowest(repeat: Mapping[str, Any]) -> list[tuple[float, float]]:
        return [(each["second"], 1000 * each["histogram"]["max_ns"] / 1e9) for each in _whole(repeat)]

    return _over_time(shown, {"requests a second": rate, "slowest response, ms": slowest})


def _whole(repeat: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the seconds that the run had in full: the last one's requests are not those of a second."""
    return [each for each in repeat["series"] if each["second"] + 1 <= repeat["seconds"]] or repeat["series"]


def _server(shown: Mapping[str, Mapping[str, Any]]) -> Figure:
    def of(name: str) -> Any:
        return lambda repeat: [(each["second"], each[name] or 0.0) for each in repeat["server"].get("series", ())]

    panels = {"accept queue": "accept_queue", "workers' queues": "worker_queue", "cores used": "cpu_ratio"}
    return _over_time(shown, {title: of(name) for title, name in panels.items()})


def _over_time(shown: Mapping[str, Mapping[str, Any]], panels: Mapping[str, Any]) -> Figure:
    figure = empty_figure(1.9 * len(panels))
    grid = list(chain(figure.subplots(len(panels), 1, sharex=True, squeeze=False).flat))
    for axes, (title, points) in zip(grid, panels.items(), strict=True):
        for number, (name, repeat) in enumerate(shown.items()):
            found = points(repeat)
            axes.plot(
                [at for at, _ in found], [value for _, value in found], label=name,
                color=SERIES[number % len(SERIES)], linestyle=DASHES[number % len(DASHES)],
            )  # fmt: skip
        axes.set_title(title, loc="left")
        axes.set_ylim(bottom=0)
    grid[-1].set_xlabel("seconds")
    if len(shown) > 1:
        grid[0].legend()
    return figure
