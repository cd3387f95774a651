"""The agent channel's bytes: JSON messages for simple agents, frames for fast ones."""
