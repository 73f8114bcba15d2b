"""What a campaign does, from its files alone: read while it runs, here or elsewhere, after a crash, and when it is finished.

Nothing is written and nothing is locked, so that a look disturbs nobody; whatever may change between two reads is taken as it
is found. Light: no numerical library.
"""
