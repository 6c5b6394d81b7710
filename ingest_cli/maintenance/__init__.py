"""Maintenance of a site: verifies, backs up and prunes it, and diagnoses what is wrong with it.

Nothing that runs a job imports it.
"""
