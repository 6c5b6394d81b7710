"""The four services that a run talks to: ids, policy, archive and catalogue, by the ports of `base`.

They know nothing of jobs, and raise what the caller is to do about a failure.
"""
