"""By which addresses this host can be reached: what transports that listen have in common."""

from tunmesh.underlay.discovery import Discovery
from tunmesh.underlay.listening import check_listen

__all__ = ["Discovery", "check_listen"]
