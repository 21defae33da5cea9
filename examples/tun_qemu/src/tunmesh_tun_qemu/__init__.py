"""The network card of a virtual machine as the device: an example of a TUN backend."""
