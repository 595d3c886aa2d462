"""The only composition root: Settings -> databases, producers, stages, web apps.

Nothing else constructs these; nothing here decides anything. One file for each program, so that a
service loads what it is made of, and no more.
"""
