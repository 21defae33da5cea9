"""By which addresses this host can be reached: what transports that listen have in common."""

from tunmesh.underlay.discovery import Discovery

__all__ = ["Discovery"]
