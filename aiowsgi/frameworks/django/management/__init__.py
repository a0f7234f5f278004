"""Management commands of the Django app: Django looks for them in the package ``commands`` below.

Nothing else belongs here, and nothing is imported here.
"""
