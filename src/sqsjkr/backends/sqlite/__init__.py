"""The embedded store: queue and table in one SQLite file, durable, shared by any number of processes of one host.

It keeps the promises of SQS and DynamoDB on one host: visibility, receive counts, dead letters, locks, claims.
"""
