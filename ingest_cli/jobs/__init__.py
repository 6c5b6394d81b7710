"""Jobs: what they are, which changes they can go through, who may make them, and where they and their files are kept.

Nothing here looks into a bundle, or knows an archive or a service: a job has a file, and ids that are reserved for it.
"""
