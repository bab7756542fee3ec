"""Amazon DynamoDB: the table for locks and claims."""
