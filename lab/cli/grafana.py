"""Commands `lab grafana …`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from lab.cli.arguments import JsonOption
from lab.cli.output import BAD_USAGE, print_json, refuse, say

app = typer.Typer(no_args_is_help=True, help="Push dashboards into any Grafana, and mark moments on its time axis.")

GrafanaUrl = Annotated[
    str | None, typer.Option("--url", help="Grafana's root URL [$LAB_GRAFANA_URL, or the stack's].", show_default=False)
]
GrafanaToken = Annotated[
    str | None, typer.Option("--token", help="A service account's token [$LAB_GRAFANA_TOKEN].", show_default=False)
]
GrafanaUser = Annotated[
    str | None,
    typer.Option("--user", metavar="NAME:PASSWORD", help="Instead of a token [$LAB_GRAFANA_USER].", show_default=False),
]


@app.command()
def sync(
    url: GrafanaUrl = None,
    token: GrafanaToken = None,
    user: GrafanaUser = None,
    prometheus_url: Annotated[
        str | None,
        typer.Option(
            help="Prometheus as seen from Grafana [$LAB_GRAFANA_PROMETHEUS_URL, or the stack's].", show_default=False
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Push the Prometheus data source, a folder and every dashboard. A second run changes nothing.

    Exits with 2 if Grafana refuses something.
    """
    from lab.grafana import sync as syncing
    from lab.grafana.api import Grafana, GrafanaError

    target = Grafana.from_settings(url, token, user)
    try:
        boards = syncing.read_dashboards()
        prometheus = syncing.prometheus_seen_from_grafana(prometheus_url)
        items = list(syncing.sync(target, boards, prometheus, dry_run=dry_run))
    except (GrafanaError, syncing.DashboardError) as error:
        refuse(str(error))
    changes = {syncing.CREATED, syncing.UPDATED}
    if as_json:
        print_json({"grafana": target.url, "dry_run": dry_run, "items": [asdict(item) for item in items]})
    else:
        for item in items:
            outcome = f"to be {item.outcome}" if dry_run and item.outcome in changes else item.outcome
            typer.echo(f"{item.kind:<12} {item.uid:<24} {outcome:<14} {item.detail}".rstrip())
    if not boards:
        say("there is no dashboard below dashboards/ yet: nothing but the data source and the folder to push")
    changed = sum(item.outcome in changes for item in items)
    say(f"{changed or 'nothing'} {'to change' if dry_run else 'changed'} at {target.url}")
    if any(item.outcome == syncing.REFUSED for item in items):
        raise typer.Exit(BAD_USAGE)


@app.command()
def annotate(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What happened.", show_default=False)],
    tag: Annotated[list[str] | None, typer.Option(help="A tag beside `lab`; may be repeated.")] = None,
    since: Annotated[str, typer.Option("--from", metavar="TIME", help="ISO 8601, epoch seconds, or -5m.")] = "now",
    until: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="Mark the region up to here.", show_default=False)
    ] = None,
    dashboard: Annotated[
        str | None, typer.Option(metavar="UID", help="Show it on this dashboard only.", show_default=False)
    ] = None,
    panel: Annotated[
        int | None, typer.Option(metavar="ID", help="Show it on this panel of it only.", show_default=False)
    ] = None,
    url: GrafanaUrl = None,
    token: GrafanaToken = None,
    user: GrafanaUser = None,
    as_json: JsonOption = False,
) -> None:
    """Mark a moment, or a region, on the time axis of the dashboards, and print the annotation's id.

    Example: lab grafana annotate "herd" --tag nginx --from -5m --to now
    """
    from lab.grafana.annotate import span, tagged
    from lab.grafana.api import Grafana, GrafanaError

    if not text.strip():
        refuse("the text is empty: say what happened")
    if panel is not None and dashboard is None:
        refuse("--panel needs --dashboard: a panel's id means something on its dashboard only")
    target, tags = Grafana.from_settings(url, token, user), tagged(tag or ())
    try:
        start, end = span(since, until)
        number = target.annotate(text, tags, start, end, dashboard=dashboard, panel=panel)
    except (ValueError, GrafanaError) as error:
        refuse(str(error))
    if as_json:
        print_json({"grafana": target.url, "id": number, "start": start, "end": end, "tags": tags})
    else:
        typer.echo(number)
