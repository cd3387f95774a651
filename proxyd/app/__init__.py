"""The daemon, put together: the only package that knows every room."""
