"""tunmesh beside other layer-3 tunnels, on one machine and in one run.

Every tunnel gets the same treatment in the same order, round after round, so that whatever else
the machine does falls on all of them. Nothing here is part of the product.
"""
