"""The UDP transport for tunmesh."""
