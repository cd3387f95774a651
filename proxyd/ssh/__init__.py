"""
The way out through SSH servers: a client that logs in, and channels that are streams.

Twisted Conch gives the key exchange and the reading of keys. What a bastion
host needs beside that is ours: packets at the speed of the ciphers, windows
that stop a writer, signatures and host keys as OpenSSH has them today.
"""
