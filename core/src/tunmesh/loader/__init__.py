"""Plugins: which are installed, which are selected, what they offer, and what is wrong with them.

The only part of tunmesh that knows stevedore and pluggy. Knows nothing of what plugins do.
"""

from tunmesh.loader.manager import FILLERS, PluginHost
from tunmesh.loader.report import PluginEntry, PluginErrors

__all__ = ["FILLERS", "PluginEntry", "PluginErrors", "PluginHost"]
