"""proxyd: an access daemon for a bastion host, one process between people and private networks."""

__version__ = "0.1.0"
