"""Which node gets which packet: routes from all contributors, compiled into a forwarding table.

`Rib` holds the routes, `Fib` answers for each packet. Contains no I/O and knows nothing of
sessions or transports.
"""

from tunmesh.routing.broadcast import broadcast_routes
from tunmesh.routing.fib import Fib, Place
from tunmesh.routing.rib import Rib
from tunmesh.routing.unicast import Acceptance, RecordRoutes, routes_of_record

__all__ = [
    "Acceptance",
    "Fib",
    "Place",
    "RecordRoutes",
    "Rib",
    "broadcast_routes",
    "routes_of_record",
]
