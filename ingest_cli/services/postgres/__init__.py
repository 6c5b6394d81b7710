"""Ids and the catalogue in a PostgreSQL database that many hosts share."""
