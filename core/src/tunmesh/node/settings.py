"""From the configuration to what the mesh needs."""

from __future__ import annotations

from pathlib import Path

from tunmesh.config import Config
from tunmesh.membership.timing import DirectoryTiming
from tunmesh.mesh import MeshSettings
from tunmesh.peering.timing import PathTiming
from tunmesh.session import suites
from tunmesh.session.timing import Timing


def mesh_settings(config: Config) -> MeshSettings:
    """The mesh's settings of a configuration, on this machine."""
    timing = config.timing
    chosen = config.mesh.cipher
    return MeshSettings(
        networks=config.mesh.networks,
        accept_subnets=config.routing.accept_subnets,
        broadcast=config.routing.broadcast,
        broadcast_rate=config.routing.broadcast_rate,
        eager_peers=config.mesh.eager_peers,
        relay=config.node.relay,
        suites=tuple(suites.SUITES.values()) if chosen == "auto" else (suites.SUITES[chosen],),
        hardware_aes=_hardware_aes(),
        advertise=config.node.advertise,
        session=Timing(
            rekey_after=float(timing.rekey_after), reject_after=float(timing.reject_after)
        ),
        paths=PathTiming(
            path_probe=float(timing.path_probe),
            keepalive=float(timing.keepalive),
            standby_probe=float(timing.standby_probe),
        ),
        directory=DirectoryTiming(
            digest_min=float(timing.reregister_local),
            digest_max=2 * float(timing.reregister_local),
            digest_mesh=float(timing.reregister_mesh),
            stale_local=float(timing.stale_local),
            stale_mesh=float(timing.stale_mesh),
        ),
    )


def _hardware_aes() -> bool:
    """Whether the processor has AES instructions, as the kernel tells."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return any(
        "aes" in line.split()
        for line in text.splitlines()
        if line.startswith(("flags", "Features"))
    )
