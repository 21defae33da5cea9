"""The Linux TUN device for tunmesh."""
