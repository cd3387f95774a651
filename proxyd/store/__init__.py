"""What proxyd remembers: in memory, in an SQLite file, or in a PostgreSQL that nodes share."""
