"""How production does on the posts that have come since: live scores, drift, A/B tests, rollback by evidence.

A live post is later than all posts that either compared side knows. Each is forecast from the post before it, as in a
replay, by the live fit and, beside it, by the naive forecast, by the version that production replaced, and by the
challenger of the running A/B test. `update` makes the scores and keeps them in the database; the others only read them.
"""
