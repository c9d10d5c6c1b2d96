"""Load that changes over time; chosen by `--shape`, or in the page with `--class-picker`."""

from loadtests.shapes.spike import SpikeShape
from loadtests.shapes.step import StepShape

SHAPES = {"step": StepShape, "spike": SpikeShape}
