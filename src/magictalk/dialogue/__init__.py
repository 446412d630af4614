"""Dialogues of virtual characters (MagicTalk, section 4.5): a script becomes a video in which they talk and listen."""
