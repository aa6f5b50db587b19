"""x."""
def print_scaling(found): pass
