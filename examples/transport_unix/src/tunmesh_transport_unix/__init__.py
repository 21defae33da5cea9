"""Unix datagram sockets as a transport: an example of a transport on the reactor."""
