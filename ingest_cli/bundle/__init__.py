"""What a bundle is: its tar, its metadata document and what may stand in it, and how one is made.

It knows nothing of jobs, services or the terminal.
"""
