window.YTD.tweets.part0 = [
  {
    "tweet": {
      "edit_info": {
        "initial": {
          "editTweetIds": [
            "1000000000000000001"
          ],
          "isEditEligible": false
        }
      },
      "retweeted": false,
      "source": "<a href=\"https://mobile.example.com\" rel=\"nofollow\">Web App</a>",
      "entities": {
        "hashtags": [],
        "symbols": [],
        "user_mentions": [],
        "urls": []
      },
      "display_text_range": [
        "0",
        "24"
      ],
      "favorite_count": "3",
      "id_str": "1000000000000000001",
      "truncated": false,
      "retweet_count": "1",
      "id": "1000000000000000001",
      "created_at": "Wed Oct 10 20:19:24 +0000 2018",
      "favorited": false,
      "full_text": "hello &amp; good evening",
      "lang": "en"
    }
  },
  {
    "tweet": {
      "edit_info": {
        "initial": {
          "editTweetIds": [
            "1000000000000000002"
          ],
          "isEditEligible": false
        }
      },
      "retweeted": false,
      "source": "<a href=\"https://mobile.example.com\" rel=\"nofollow\">Web App</a>",
      "entities": {
        "hashtags": [],
        "symbols": [],
        "user_mentions": [],
        "urls": []
      },
      "display_text_range": [
        "0",
        "14"
      ],
      "favorite_count": "3",
      "id_str": "1000000000000000002",
      "truncated": false,
      "retweet_count": "1",
      "id": "1000000000000000002",
      "created_at": "Thu Oct 11 08:00:00 +0000 2018",
      "favorited": false,
      "full_text": "RT @other: two",
      "lang": "en"
    }
  },
  {
    "tweet": {
      "edit_info": {
        "initial": {
          "editTweetIds": [
            "1000000000000000003"
          ],
          "isEditEligible": false
        }
      },
      "retweeted": false,
      "source": "<a href=\"https://mobile.example.com\" rel=\"nofollow\">Web App</a>",
      "entities": {
        "hashtags": [],
        "symbols": [],
        "user_mentions": [],
        "urls": []
      },
      "display_text_range": [
        "0",
        "12"
      ],
      "favorite_count": "3",
      "id_str": "1000000000000000003",
      "truncated": false,
      "retweet_count": "1",
      "id": "1000000000000000003",
      "created_at": "Fri Oct 12 09:30:01 +0000 2018",
      "favorited": false,
      "full_text": "@other three",
      "lang": "en",
      "in_reply_to_status_id": "999",
      "in_reply_to_status_id_str": "999",
      "in_reply_to_user_id": "7",
      "in_reply_to_screen_name": "other"
    }
  }
]