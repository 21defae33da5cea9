"""Sessions between two nodes: handshake, keypairs, replay windows, units. Contains no I/O."""
