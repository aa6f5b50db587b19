Grailbird.data.tweets_2013_05 = [
  {
    "source": "web",
    "entities": {
      "user_mentions": [],
      "media": [],
      "hashtags": [],
      "urls": []
    },
    "geo": {},
    "id_str": "330000000000000003",
    "text": "three",
    "id": 330000000000000003,
    "created_at": "2013-05-03 12:00:00 +0000",
    "user": {
      "name": "A",
      "screen_name": "a",
      "protected": false,
      "id_str": "5",
      "id": 5
    }
  }
]