"""AWS's own calls: the only place that knows boto3, and all of it in threads."""
