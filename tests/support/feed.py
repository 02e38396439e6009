"""Reads the feed in a file as a feed reader would, and prints it as JSON: its title, id, and entries.

feed.py FILE: ends with an error where feedparser finds it malformed.
"""

import json
import sys

import feedparser

feed = feedparser.parse(open(sys.argv[1], "rb").read())
if feed.bozo:
    sys.exit(f"malformed: {feed.bozo_exception}")
entry = ("id", "title", "updated", "published", "link")
print(json.dumps({
    "version": feed.version,
    "title": feed.feed.title,
    "id": feed.feed.id,
    "updated": feed.feed.updated,
    "entries": [{key: it[key] for key in entry} | {"text": it.content[0].value} for it in feed.entries],
}))
