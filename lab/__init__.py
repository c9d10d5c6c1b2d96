"""The lab around the servers: bring them up, load them, watch them, measure them."""

import warnings

__version__ = "0.2.0"
"""The only place that has it; pyproject.toml reads it here, and CHANGELOG.md has a section of the same name."""

# Models on a free-threaded build have no GIL. Some of our own extensions bring it back to *our* process (lab/gil.py),
# and Python says so each time.
warnings.filterwarnings("ignore", "The global interpreter lock", RuntimeWarning)
