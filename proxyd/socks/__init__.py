"""SOCKS5, SOCKS4A and HTTP CONNECT clients: from their first byte to the end of their session."""
