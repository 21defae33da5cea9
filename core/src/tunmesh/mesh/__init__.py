"""The mesh as one node sees it. Sans-I/O: see `tunmesh.mesh.core`."""

from tunmesh.mesh.core import Mesh
from tunmesh.mesh.settings import MeshSettings, Observer, Resolve

__all__ = ["Mesh", "MeshSettings", "Observer", "Resolve"]
