"""Gets back what was ingested. Nothing that runs a job imports it."""
