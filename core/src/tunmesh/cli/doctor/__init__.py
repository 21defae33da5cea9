"""``tunmesh doctor``: what is wrong with this host, and the command that mends it."""

from tunmesh.cli.doctor.command import doctor_command

__all__ = ["doctor_command"]
