"""Fixtures that tests of several stages share; a fixture of one stage lives in its own folder."""
