"""What a pipeline does, stage by stage, and all of it in order."""
