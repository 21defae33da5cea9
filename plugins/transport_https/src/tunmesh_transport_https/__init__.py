"""The HTTPS transport for tunmesh."""
