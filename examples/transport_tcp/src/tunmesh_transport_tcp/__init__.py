"""Datagrams over TCP: an example of a transport that runs tasks."""
