"""What renders the apartment and the homes, whose truth is exact."""
