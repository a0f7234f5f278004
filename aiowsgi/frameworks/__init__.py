"""Lets frameworks start this server by their own commands: Paste Deploy, Django and Bottle.

Each module here belongs to one framework and imports it only when it is used. Nothing of the
server itself may depend on this package.
"""
