"""Jobs: what they are, which changes they can go through, who may make them, and where they and their files are kept.

Nothing here knows what a bundle, an archive or a service is.
"""
