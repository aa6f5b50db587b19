"""How production does on the posts that come: live scores, drift, A/B tests, rollback by evidence."""
