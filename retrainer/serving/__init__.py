"""What the pages and the REST API share: the token, the streams, threads, caches, and the start of runs."""
