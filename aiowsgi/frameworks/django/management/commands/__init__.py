"""The commands, one module for each, named as the command is: ``runserver`` for development.

They only start the server; what it does is not decided here.
"""
