"""Addresses that an HTTP server leases: an example of an address provider."""
