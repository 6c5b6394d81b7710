"""Jobs: what they are, which changes they can go through, who may make them, and the store that keeps them.

Nothing here knows what a bundle, an archive or a service is.
"""
