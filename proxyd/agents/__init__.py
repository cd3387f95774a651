"""Reverse agents: machines that dial out to us, and what is reached through them."""
