"""Gets back what was ingested, by the services alone. Nothing that runs a job imports it."""
