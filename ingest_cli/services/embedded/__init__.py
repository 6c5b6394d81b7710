"""The four services on this machine: SQLite for ids and catalogue, a folder for the archive, a schema for policy."""
