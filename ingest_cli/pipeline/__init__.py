"""From a submitted job to its end: the stages of a run, rolling back, and who does it when.

Nothing here knows SQL, HTTP or a terminal: the store and the services are known by their ports, and an observer is told
what happens.
"""
