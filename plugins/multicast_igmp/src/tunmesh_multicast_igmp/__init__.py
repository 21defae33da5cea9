"""Multicast for tunmesh, learned from IGMP and MLD."""
