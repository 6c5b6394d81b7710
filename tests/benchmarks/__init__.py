"""Programs that measure; no test runs them, and they hold nothing against anyone."""
