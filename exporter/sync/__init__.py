"""What to ask a portal, and when: feeds, their coverage, one policy, and the engine that follows it."""
