"""The demo: a PostgreSQL of its own with a sample database, and proxyd in front of it."""
