"""The stack for workshops: bring it up, take it down, see what it does, and what the machine can do for it."""
