"""What can stand behind the ports: SQS, DynamoDB, and SQLite for one host."""
