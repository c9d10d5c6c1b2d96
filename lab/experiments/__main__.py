"""Inside the sandbox: all trials of one experiment, printed for the process that started it, which judges them.

    python -m lab.experiments NAME quick|full [CONTROL]

prints what lab/harness/trials.py says, or `{"error": "…"}` where a trial could not be made.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile

from lab import experiments
from lab.harness.controls import as_run
from lab.harness.trial import TrialError
from lab.harness.trials import make_trials, say
from lab.peers.process import PeerError
from lab.sandbox.network import NetworkError
from lab.sandbox.outside import TEMPORARY

BAD_ENVIRONMENT = 2
MOST_BYTES = 256 * 2**20
"""Of files in a sandbox: they are memory, and a log that runs wild should end the run, not the machine's."""


def main() -> None:
    """Make the trials that the command line names."""
    name, effort, *control = sys.argv[1:]
    declared, quick = experiments.named(name), effort == "quick"
    taken_away = experiments.control_of(declared, control[0]) if control else None
    experiment = as_run(declared, taken_away, quick=quick)
    decisive = [check for check in experiment.checks if taken_away is None or check.name in taken_away.fails]
    try:
        # A tmpfs over a folder of the checkout, in our own mount namespace: no file can be left behind.
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={MOST_BYTES}", "none", str(TEMPORARY)], check=True)
        tempfile.tempdir = str(TEMPORARY)
        make_trials(experiment, decisive, quick=quick)
    # The last two: a connect, or a program, that nobody expected to fail.
    except (TrialError, PeerError, NetworkError, OSError, subprocess.SubprocessError) as error:
        say(error=str(error))
        raise SystemExit(BAD_ENVIRONMENT) from error


if __name__ == "__main__":
    main()
