"""What the pages show: each module gathers the data of one page; the templates only format it."""
