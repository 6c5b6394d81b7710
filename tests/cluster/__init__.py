"""Many hosts that share a database and an archive, and lose their way to them, their power or their time."""
