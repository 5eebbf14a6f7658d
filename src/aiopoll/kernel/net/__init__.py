"""net: sockets over a network that lives in this process."""
