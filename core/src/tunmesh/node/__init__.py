"""One node: see `tunmesh.node.core`."""

from tunmesh.node.command import run_command
from tunmesh.node.core import Node
from tunmesh.node.opening import NodeFailed

__all__ = ["Node", "NodeFailed", "run_command"]
