"""Looks after what is there: verifies, backs up and prunes it, and finds out what is wrong with a site.

Nothing that runs a job imports it.
"""
