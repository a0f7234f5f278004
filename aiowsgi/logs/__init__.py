"""The diagnostic log and the access log.

Setting up ``logging``, formatting an access log line from a finished request, and writing lines to
files from a thread of its own. What is counted for metrics is in ``status``.
"""
