"""What an extension changed: before and after, beside other ways, as JSON and as a page."""
