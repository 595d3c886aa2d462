"""The console: one web page that shows the whole flow, and lets an operator put things right.

It is a client like any other: of the services' HTTP APIs, and of Kafka for topics and groups.

    services.py   asks a service for somebody, with their key
    sampler.py    looks at everything every two seconds, and keeps an hour of it
    topics.py     topics and their records        groups.py   consumer groups and their offsets
    sessions.py   who is signed in                trail.py    who did what: a topic of its own
    api.py        what the page asks for          static/     the page
"""
