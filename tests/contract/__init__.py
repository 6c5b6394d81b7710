"""What every implementation of a port must do: one suite for each port, run against each who implements it.

Services over HTTP are doubles on loopback here; ``integration`` runs the same suites against the released ones.
"""
