"""A Django app whose ``runserver`` command serves with aiowsgi instead of wsgiref.

Put it into ``INSTALLED_APPS``, before ``django.contrib.staticfiles``::

    INSTALLED_APPS = ["aiowsgi.frameworks.django", "django.contrib.staticfiles", ...]

It has no models and changes nothing but the command. In production, start ``aiowsgi mysite.wsgi``.
"""
