"""Mark, find, correct: the loop behind the page in the browser, and the page itself.

:mod:`.session` is the loop without a browser; :mod:`.face` and :mod:`.routes` show it.
"""
