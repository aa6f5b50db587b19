"""The settings of torch, such as its threads and random numbers, belong to the process, not to an algorithm."""

import threading

LOCK = threading.RLock()  # hold it from a change until the settings are restored
