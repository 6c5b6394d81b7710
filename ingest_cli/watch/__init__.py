"""Drop folders: what is found whole in one becomes a job, and is moved or deleted once that has ended.

Nothing here looks into an archive or a catalogue: a worker pool beside it runs the jobs.
"""
