"""Moves the databases of an installation to another place: what counts as having moved, and who may write meanwhile."""
