"""tunmesh: a layer-3 mesh VPN for Linux that is also a framework."""

__version__ = "0.1.0"
