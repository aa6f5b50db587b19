"""Read files of posts: each format yields its rows as plain values.

`find_posts_files` finds the files of a path, a folder or an archive; `ReadableFile.open` opens one as a `PostsTable`.
"""

from retrainer.posts.readers.limits import limit_error, quote_names
from retrainer.posts.readers.opening import STANDARD_INPUT, ReadableFile, find_posts_files
from retrainer.posts.readers.options import ReadOptions

__all__ = ["STANDARD_INPUT", "ReadOptions", "ReadableFile", "find_posts_files", "limit_error", "quote_names"]
