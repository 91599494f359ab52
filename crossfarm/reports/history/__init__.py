"""The history: the results of many runs in one database, a SQLite file or PostgreSQL."""
