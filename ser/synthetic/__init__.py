"""Made-up data: synthetic speech, tones, tiny models, a stand-in language model server."""
