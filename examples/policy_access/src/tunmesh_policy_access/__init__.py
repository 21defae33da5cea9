"""Access rules: an example of a routing policy that decides about flows."""
