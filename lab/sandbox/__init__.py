"""The throwaway place that experiments run in: network namespaces of their own, inside one user namespace.

`outside` starts the sandbox and ends it, whatever happens; `network` makes the pair of namespaces inside.
"""
