"""Notebook over the stored runs of this checkout: `.venv/bin/marimo edit docs/notebooks/runs.py`."""

import marimo

app = marimo.App(width="medium")


@app.cell
def _():
    from pathlib import Path

    import marimo as mo

    from lab.results import frame

    docs = Path(__file__).resolve().parents[1]
    return docs, frame, mo


@app.cell
def _(mo):
    mo.md("""
    # What a request costs

    The stored benchmark, a row for each figure of each round (`docs/analysis.md` has the columns).
    """)
    return


@app.cell
def _(docs, frame):
    benchmark = frame(str(docs / "benchmark.json"))
    cost = (
        benchmark[benchmark["metric"] == "cpu_per_request"]
        .groupby("subject")["value"]
        .agg(["median", "min", "max"])
        .sort_values("median")
        * 1e6
    )
    cost.columns.name = "processor time a request, µs"
    cost
    return (cost,)


@app.cell
def _(cost):
    errors = [cost["median"] - cost["min"], cost["max"] - cost["median"]]
    axes = cost["median"].plot.barh(xerr=errors, xlabel="µs of processor time a request", ylabel="", legend=False)
    axes.set_xscale("log")
    axes
    return


@app.cell
def _(mo):
    mo.md("""
    # All experiments at once

    How much did each figure vary from trial to trial? The widest of them should be read with the least trust.
    """)
    return


@app.cell
def _(docs, frame):
    experiments = frame(*map(str, sorted((docs / "experiments" / "results").glob("*.json"))))
    figures = experiments.pivot_table(
        index=["subject", "variant", "metric"], columns="statistic", values="value", aggfunc="first"
    )
    spread = ((figures["max"] - figures["min"]) / figures["median"]).rename("spread, in medians")
    widest = spread[figures["median"] > 0].sort_values(ascending=False).head(10).to_frame()
    widest
    return experiments, widest


if __name__ == "__main__":
    app.run()
