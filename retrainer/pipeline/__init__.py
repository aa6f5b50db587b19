"""One run, a module a step; `run.py` reads them in order."""
