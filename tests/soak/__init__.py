"""Machines that do anything in any order, for as long as they are let: a few examples in the first tier.

Many more are a sweep, of the second.
"""
