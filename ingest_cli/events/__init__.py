"""Events: what is told to others of jobs, in which form, and how it gets there. It never holds up a job, nor fails one.

It imports neither the pipeline nor anything above it.
"""
