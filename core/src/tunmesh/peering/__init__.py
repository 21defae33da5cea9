"""A peer, its paths and what is said between two nodes. Sans-I/O: the time is an argument."""
