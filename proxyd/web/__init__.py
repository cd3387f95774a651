"""The HTTP API: what people and programs ask of a running proxyd, and its metrics."""
