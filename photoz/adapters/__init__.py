"""Thin bridges to other tools; each module is importable without the others."""
