"""Scoring: a catalogue of any size through a fitted model."""

from photoz.scoring.run import Scored, score_catalogue

__all__ = ["Scored", "score_catalogue"]
