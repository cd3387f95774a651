"""SOCKS and HTTP CONNECT: how a client says who it is and where it wants to go."""
