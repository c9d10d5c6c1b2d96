"""`python -m lab`: the command line where no console script is installed, as in the `lab` container."""

from lab.cli import app

app(prog_name="lab")
