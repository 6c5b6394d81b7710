"""Ingest bundles of scientific data into an archive and a catalogue."""

__version__ = "0.1.0"
