"""The pages of `retrainer serve`: what is live, how good it is, why it was promoted, what comes next.

They are rendered on the server, are complete without JavaScript, and fetch nothing from elsewhere.
"""
