"""The four services that a run talks to, by the ports of `base`: ids, policy, archive and catalogue.

They know nothing of jobs (the embedded ones share how databases are kept), and raise what the caller can act on.
"""
