"""The spool that several hosts share: what came over HTTP lies in object storage, what is known of it in the database.

Knows of jobs and of storage, and of nothing that comes over HTTP or is done with it.
"""
