"""``tunmesh demo``: a mesh of real nodes in network namespaces on this machine.

One process with one thread runs it. What must happen inside a namespace happens in child processes:
the nodes themselves, and the workers that ping and measure.
"""
