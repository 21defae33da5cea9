"""Small tools to try multicast with, on any network."""
