"""The web pages of the admin listener: drawn here from the facts that the JSON routes give, and sent without a build step."""
