"""What a bundle is: its tar, its metadata document and what they may contain, and how one is made.

It knows nothing of jobs, services or the terminal.
"""
