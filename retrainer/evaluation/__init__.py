"""How forecasts are compared: pure functions, without database or files."""
