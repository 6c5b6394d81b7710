"""What goes wrong on purpose: kills, full and broken disks, lost power, stepped clocks, services that misbehave.

What visits many steps is a sweep, of the second tier.
"""
