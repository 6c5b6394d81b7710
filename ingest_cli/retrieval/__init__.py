"""Restores what was ingested, from the services alone. Nothing that runs a job imports it."""
