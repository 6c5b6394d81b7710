"""From a submitted job to its end: the stages of a run, rolling back, and the workers that run jobs.

Nothing here knows SQL, HTTP or a terminal: the store and the services are known by their ports, and an observer is told
what happens.
"""
