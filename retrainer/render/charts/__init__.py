"""Charts of results, drawn by matplotlib: SVG for pages and reports, PNG or SVG files for `--plot`, with one look.

A function of a module here takes results and returns a `chart.Chart`, or None if there is nothing to draw. Nothing is
drawn, and matplotlib is not imported, before the SVG or the file of a chart is asked for.
"""
